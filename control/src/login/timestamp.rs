//! The time of day, as challenges and tokens have it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, such as `2014-06-22T16:36:25.448Z`.
pub(super) fn now() -> String {
    let since = since_1970();
    of(since.as_secs(), since.subsec_millis())
}

/// Seconds since 1 January 1970, as clocks on walls have it.
#[allow(clippy::disallowed_methods, reason = "others read it by their own clocks; nothing here waits for it")]
pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn of(seconds: u64, milliseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Year, month and day of the Gregorian calendar, so many days after 1 January 1970. Years begin in March here, so that the day
/// that some lack is their last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_FROM_0000_03_01;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

const DAYS_OF_400_YEARS: u64 = 146_097;
const DAYS_FROM_0000_03_01: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, told) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_403_454_985, "2014-06-22T16:36:25.007Z"),
            (4_107_542_399, "2100-02-28T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(of(seconds, 7), told);
        }
    }
}
