use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_powers_of_1024() {
    for (text, bytes) in [
        ("1", 1),
        ("4096", 4096),
        ("64K", 64 << 10),
        ("64M", 64 << 20),
        ("64MiB", 64 << 20),
        ("2G", 2 << 30),
        ("1T", 1 << 40),
        ("17B", 17),
    ] {
        assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
    }
}

#[test]
fn a_bad_size_says_what_is_wrong() {
    use BadByteSize::{Decimal, Syntax, TooLarge, Zero};
    for text in ["", "M", "64Q", "-1", "1.5G", " 64M", "64 M", "0x40", "64m"] {
        assert_eq!(text.parse::<ByteSize>(), Err(Syntax(text.into())), "{text}");
    }
    assert_eq!("64MB".parse::<ByteSize>(), Err(Decimal("64MB".into())));
    assert_eq!("0".parse::<ByteSize>(), Err(Zero));
    assert_eq!("0G".parse::<ByteSize>(), Err(Zero));
    for text in ["9223372036854775808", "8388608T", "99999999999999999999"] {
        assert_eq!(text.parse::<ByteSize>(), Err(TooLarge(text.into())), "{text}");
    }
    let message = "64Q".parse::<ByteSize>().unwrap_err().to_string();
    assert!(message.contains("\"64Q\"") && message.contains("64M"), "{message}");
}

#[test]
fn a_size_in_a_file_is_text_or_a_number() {
    #[derive(Debug, Deserialize)]
    struct File {
        size: ByteSize,
    }
    assert_eq!(toml::from_str::<File>("size = '1K'").unwrap().size.bytes(), 1024);
    assert_eq!(toml::from_str::<File>("size = 1024").unwrap().size.bytes(), 1024);
    assert!(toml::from_str::<File>("size = -1").is_err());
    assert!(toml::from_str::<File>("size = true").is_err());
}

#[test]
fn a_cpu_share_is_a_percentage_of_one_cpu() {
    assert_eq!("20%".parse::<CpuShare>().unwrap().quota_us(), 20_000);
    assert_eq!("150%".parse::<CpuShare>().unwrap().quota_us(), 150_000);
    for text in ["", "%", "20", "0%", "0.5", "12.5%", "100001%", "-1%", "20 %"] {
        assert_eq!(text.parse::<CpuShare>(), Err(BadCpuShare(text.into())), "{text}");
    }
}

#[test]
fn spans_of_time() {
    for (text, millis) in [
        ("0s", 0),
        ("500ms", 500),
        ("5s", 5000),
        ("90s", 90_000),
        ("1m30s", 90_000),
        ("1h", 3_600_000),
        ("1d2h3m4s5ms", 93_784_005),
    ] {
        assert_eq!(text.parse::<TimeSpan>().unwrap().millis(), millis, "{text}");
    }
    assert_eq!("5".parse::<TimeSpan>(), Err(BadTimeSpan::NoUnit("5".into())));
    for text in ["", "s", "5x", "30s1m", "1s1s", "-5s", "5 s", "1.5s", "5S"] {
        assert_eq!(text.parse::<TimeSpan>(), Err(BadTimeSpan::Syntax(text.into())), "{text}");
    }
    for text in ["4000d", "99999999999999999999s", "18446744073709551615d"] {
        assert_eq!(text.parse::<TimeSpan>(), Err(BadTimeSpan::TooLong(text.into())), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(bytes in 1..=i64::MAX as u64, percent in 1u32..=100_000,
                                millis in 0..=TimeSpan::MAX_MILLIS) {
        let size = bytes.to_string().parse::<ByteSize>().unwrap();
        prop_assert_eq!(size.to_string().parse(), Ok(size));
        let share = CpuShare { percent };
        prop_assert_eq!(share.to_string().parse(), Ok(share));
        let span = TimeSpan { millis };
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn no_text_makes_them_panic(text in "\\PC*") {
        let _ = text.parse::<ByteSize>();
        let _ = text.parse::<CpuShare>();
        let _ = text.parse::<TimeSpan>();
    }

    #[test]
    fn nothing_near_the_grammar_makes_them_panic(text in "[0-9]{0,25}[a-zA-Z%]{0,3}[0-9]{0,25}[a-z]{0,2}") {
        let _ = text.parse::<ByteSize>();
        let _ = text.parse::<CpuShare>();
        let _ = text.parse::<TimeSpan>();
    }
}
