//! The scenarios. A new one is a function in the file of its subject, and a line in that file's list.

mod crowds;
mod cuts;
mod descriptors;
mod dripping;
mod hooks;
mod lines;
mod publishers;
mod reloads;
mod slow_readers;

use crate::scenario::Scenario;

/// All of them, in the order in which they are played.
pub fn all() -> Vec<Scenario> {
    [
        slow_readers::scenarios(),
        publishers::scenarios(),
        dripping::scenarios(),
        lines::scenarios(),
        cuts::scenarios(),
        descriptors::scenarios(),
        reloads::scenarios(),
        hooks::scenarios(),
        crowds::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// `--only` must be able to pick each.
    #[test]
    fn names_differ() {
        let all = super::all();
        let names: BTreeSet<_> = all.iter().map(|scenario| &scenario.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
