//! The open-file limit: raised by ourselves as far as allowed, otherwise refused with the command to type.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;

/// Descriptors beside the connections: standard streams, epoll sets, doorbells, /proc files, the JSON report.
const OTHER_FILES: u64 = 64;

/// Makes sure that `connections` sockets can be open at once.
pub fn raise_open_files(connections: usize) -> Result<(), Failure> {
    let wanted = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let Some(next) = raised(limit, wanted, connections)? else { return Ok(()) };
    setrlimit(Resource::Nofile, next).map_err(|error| {
        Failure::usage(format!(
            "the open-file limit cannot be raised to {wanted}: {error}; try `ulimit -n {wanted}`"
        ))
    })
}

/// The limit to set, `None` if the present one is enough.
fn raised(limit: Rlimit, wanted: u64, connections: usize) -> Result<Option<Rlimit>, Failure> {
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(None);
    }
    if let Some(hard) = limit.maximum.filter(|hard| *hard < wanted) {
        return Err(Failure::usage(format!(
            "{connections} connections need {wanted} open files, but the hard limit of this process is {hard}: \
             run `ulimit -Hn {wanted}` as root before, or set LimitNOFILE={wanted} in the unit, or ask for at most {} connections",
            hard.saturating_sub(OTHER_FILES)
        )));
    }
    // The soft limit goes to the hard one: a limit that is just enough helps nobody.
    Ok(Some(Rlimit { current: limit.maximum, maximum: limit.maximum }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_is_raised_to_the_hard_one_only_if_needed() {
        let limit = |current, maximum| Rlimit { current: Some(current), maximum: Some(maximum) };
        assert_eq!(raised(limit(1024, 4096), 500, 436).unwrap(), None);
        assert_eq!(raised(limit(1024, 4096), 2000, 1936).unwrap(), Some(limit(4096, 4096)));
        let error = raised(limit(1024, 4096), 10_064, 10_000).unwrap_err();
        assert!(error.words.contains("ulimit -Hn 10064") && error.words.contains("4032"), "{error}");
    }
}
