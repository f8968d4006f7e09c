//! Sizes, rates and durations as people write and read them.

use std::time::Duration;

const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Reads `256MiB`, `1.5 GB`, `64k`, `4096`. Without a unit: bytes; `k`, `M`, `G` and with `iB` are powers of 1,024,
/// `kB`, `MB`, `GB` powers of 1,000.
///
/// # Errors
/// A sentence when the text is no size, negative, or beyond 64 bits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write for example 64KiB, 256MiB or 1GB");
    let trimmed = text.trim();
    let digits_end = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits_end);
    let unit = unit.trim().to_ascii_lowercase();
    let scale: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let mut bytes = whole.checked_mul(scale).ok_or_else(wrong)?;
    if !fraction.is_empty() {
        let numerator: u128 = fraction.parse().map_err(|_| wrong())?;
        let denominator = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
        let part = u128::from(scale) * numerator / denominator;
        bytes = bytes
            .checked_add(u64::try_from(part).map_err(|_| wrong())?)
            .ok_or_else(wrong)?;
    }
    Ok(bytes)
}

/// Reads `250ms`, `5s`, `10m`, `24h`; a bare number is seconds.
///
/// # Errors
/// A sentence when the text is no duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write for example 250ms, 5s, 10m or 24h");
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms: u64 = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// `12.3 MiB`; exact below 1 KiB.
pub fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < BINARY.len() && bytes / scale >= 1_024 {
        scale <<= 10;
        unit += 1;
    }
    let name = BINARY.get(unit).copied().unwrap_or("B");
    if unit == 0 {
        return format!("{bytes} {name}");
    }
    // In tenths, rounded, in integers: a size never prints as 1024.0 of a unit.
    let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
    if tenths >= 10_240
        && let Some(next) = BINARY.get(unit + 1)
    {
        return format!("1.0 {next}");
    }
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Megabytes (10^6) per second.
pub fn mb_per_s(bytes: u64, elapsed: Duration) -> f64 {
    float(bytes) / 1e6 / elapsed.as_secs_f64().max(1e-9)
}

/// `850 ms`, `3.2 s`, `4 min 05 s`.
pub fn duration(elapsed: Duration) -> String {
    let ms = elapsed.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", elapsed.as_secs_f64()),
        _ => {
            let s = elapsed.as_secs();
            format!("{} min {:02} s", s / 60, s % 60)
        }
    }
}

/// `2026-11-21 06:22:43` in UTC.
pub fn time_ms(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(t) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        ),
        Err(_) => "-".to_owned(),
    }
}

/// A count as a float, for rates: exact up to 2^53.
pub fn float(n: u64) -> f64 {
    let high = u32::try_from(n >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(n & 0xffff_ffff).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

/// `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let check = |text: &str, bytes: u64| assert_eq!(parse_size(text), Ok(bytes), "{text}");
        check("0", 0);
        check("4096", 4_096);
        check("64k", 65_536);
        check("64 KiB", 65_536);
        check("256MiB", 256 << 20);
        check("1.5GiB", 3 << 29);
        check("1MB", 1_000_000);
        check("0.5kB", 500);
        check("2t", 2 << 40);
        for bad in [
            "",
            "MiB",
            "-1",
            "1.",
            ".5",
            "1e9",
            "1XB",
            "99999999999999999999",
            "16777216T",
            "1.0000000001k",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_print_in_one_unit_and_never_as_1024_of_it() {
        let check = |bytes: u64, text: &str| assert_eq!(size(bytes), text);
        check(0, "0 B");
        check(1_023, "1023 B");
        check(1_024, "1.0 KiB");
        check(1_536, "1.5 KiB");
        check((1 << 20) - 1, "1.0 MiB");
        check(256 << 20, "256.0 MiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn durations_are_read_and_printed() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "s", "1.5s", "-1s", "1d", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_millis(3_210)), "3.2 s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 05 s");
    }

    #[test]
    fn numbers_are_grouped_and_times_are_utc() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(time_ms(0), "1970-01-01 00:00:00");
        assert_eq!(time_ms(1_700_000_000_123), "2023-11-14 22:13:20");
        assert!((float(u64::from(u32::MAX) + 1) - 4_294_967_296.0).abs() < f64::EPSILON);
    }
}
