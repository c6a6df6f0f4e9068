//! Points of time as RFC 3339 writes them, always in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const TO_THE_SECOND: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const TO_THE_MILLISECOND: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Such as `2024-02-29T12:00:00Z`.
pub(crate) fn to_the_second(at: SystemTime) -> String {
    written(at, TO_THE_SECOND)
}

/// Such as `2014-06-22T16:36:25.448Z`.
pub(crate) fn to_the_millisecond(at: SystemTime) -> String {
    written(at, TO_THE_MILLISECOND)
}

/// What is written so, in any zone and with any part of a second.
pub(crate) fn read(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// The time of day, as clocks on walls have it.
#[allow(clippy::disallowed_methods, reason = "others read it by their own clocks; nothing here waits for it")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// How long ago 1 January 1970 was, as tokens count.
pub(crate) fn since_1970() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn written(at: SystemTime, format: StaticFormatDescription) -> String {
    OffsetDateTime::from(at).format(format).expect("a date has all of its parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_time_are_written_as_calendars_have_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_234_567_890, "2009-02-13T23:31:30"),
            (1_403_454_985, "2014-06-22T16:36:25"),
            (1_709_208_000, "2024-02-29T12:00:00"),
            (4_102_444_799, "2099-12-31T23:59:59"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(7);
            assert_eq!(to_the_second(at), format!("{text}Z"));
            assert_eq!(to_the_millisecond(at), format!("{text}.007Z"));
        }
    }
}
