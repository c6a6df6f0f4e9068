//! Durations, sizes, rates and counts as people write them (`1.5s`, `64KiB`, `10k`) and read them.

use std::time::Duration;

/// Splits `1.5ms` into 1.5 and `ms`.
fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .replace('_', "")
        .parse()
        .map_err(|_| format!("'{text}' does not begin with a number; write for example 250, 1.5s or 10k"))?;
    Ok((number, unit.trim()))
}

/// Nanoseconds of `5ms`, `1.5s`, `2min`; a bare number is seconds.
pub fn parse_nanos(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "" | "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return Err(format!("'{unit}' is not a unit of time; use ns, us, ms, s, min or h")),
    };
    Ok(number * factor)
}

/// A duration such as `10s`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = parse_nanos(text)?;
    if nanos > 1e18 {
        return Err(format!("'{text}' is longer than 30 years"));
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// A count such as `10000`, `10k` or `1M`.
pub fn parse_count(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        _ => return Err(format!("'{unit}' is not a multiplier; use k or M")),
    };
    let count = number * factor;
    if count.fract() != 0.0 || count > u32::MAX as f64 {
        return Err(format!("'{text}' is not a whole number up to {}", u32::MAX));
    }
    Ok(count as usize)
}

/// A rate such as `500`, `10k` or `1M`, with an optional `/s`.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text.trim().trim_end_matches("/s"))?;
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        _ => return Err(format!("'{unit}' is not a multiplier of a rate; use k or M, as in 10k")),
    };
    let rate = number * factor;
    if !rate.is_finite() || rate <= 0.0 {
        return Err(format!("'{text}' is not a rate; it must be above 0"));
    }
    Ok(rate)
}

/// A size such as `64`, `1KiB`, `64k` (1,000-based) or `1MiB`.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" | "b" => 1.0,
        "k" | "kB" => 1e3,
        "KiB" | "Ki" => 1024.0,
        "M" | "MB" => 1e6,
        "MiB" | "Mi" => 1024.0 * 1024.0,
        _ => return Err(format!("'{unit}' is not a unit of size; use B, kB, KiB, MB or MiB")),
    };
    let bytes = number * factor;
    if bytes.fract() != 0.0 || bytes > u32::MAX as f64 {
        return Err(format!("'{text}' is not a whole number of bytes below 4 GiB"));
    }
    Ok(bytes as usize)
}

/// `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time in the unit that leaves one to three digits before the point.
pub fn show_nanos(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// A rate: whole below a million, else in millions with three digits.
pub fn show_rate(rate: f64) -> String {
    match rate {
        r if r < 100.0 => format!("{r:.1}"),
        r if r < 1e6 => show_count(r.round() as u64),
        r => format!("{:.3} M", r / 1e6),
    }
}

/// A size in the largest binary unit that keeps it above 1; may be negative (memory can shrink).
pub fn show_bytes(bytes: f64) -> String {
    match bytes.abs() {
        b if b < 1024.0 => format!("{bytes:.0} B"),
        b if b < 1024.0 * 1024.0 => format!("{:.2} KiB", bytes / 1024.0),
        b if b < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
        _ => format!("{:.2} GiB", bytes / 1024.0 / 1024.0 / 1024.0),
    }
}

/// A moment as `2026-01-31 23:59 UTC`.
pub fn show_utc(unix_s: u64) -> String {
    // Days since 0000-03-01, so that the leap day is the last of its year (the proleptic Gregorian calendar).
    let days = unix_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let minutes = unix_s % 86_400 / 60;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_rates_read_as_written() {
        assert_eq!(parse_nanos("5ms").unwrap(), 5e6);
        assert_eq!(parse_nanos("1.5").unwrap(), 1.5e9);
        assert_eq!(parse_nanos("250µs").unwrap(), 250e3);
        assert_eq!(parse_duration("2min").unwrap(), Duration::from_secs(120));
        assert_eq!(parse_count("10k").unwrap(), 10_000);
        assert_eq!(parse_count("1_000").unwrap(), 1_000);
        assert_eq!(parse_rate("10k/s").unwrap(), 10_000.0);
        assert_eq!(parse_bytes("1KiB").unwrap(), 1024);
        assert_eq!(parse_bytes("64").unwrap(), 64);
    }

    #[test]
    fn moments_are_shown_in_the_calendar() {
        assert_eq!(show_utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(show_utc(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(show_utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(show_utc(1_798_761_599), "2026-12-31 23:59 UTC");
    }

    #[test]
    fn nonsense_is_refused_with_words() {
        assert!(parse_nanos("fast").unwrap_err().contains("does not begin with a number"));
        assert!(parse_nanos("5 parsec").unwrap_err().contains("unit of time"));
        assert!(parse_count("1.5").unwrap_err().contains("whole number"));
        assert!(parse_rate("0").unwrap_err().contains("above 0"));
        assert!(parse_bytes("3 bananas").unwrap_err().contains("unit of size"));
    }

    #[test]
    fn figures_are_shown_for_people() {
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(12), "12");
        assert_eq!(show_nanos(950.0), "950 ns");
        assert_eq!(show_nanos(1_250_000.0), "1.25 ms");
        assert_eq!(show_rate(2_391_222.0), "2.391 M");
        assert_eq!(show_bytes(1536.0), "1.50 KiB");
    }
}
