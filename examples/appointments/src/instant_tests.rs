use super::*;

fn parse(text: &str) -> Instant {
    Instant::parse("start", text).unwrap()
}

#[test]
fn keeps_the_text_and_compares_the_moment() {
    let east = parse("2018-01-01T06:38:25.807500+05:30");
    assert_eq!(east.as_str(), "2018-01-01T06:38:25.807500+05:30");
    assert_eq!(east, parse("2018-01-01T01:08:25.8075Z"));
    assert!(parse("2026-03-08T09:00:00-05:00") > parse("2026-03-08T13:59:59.999999999Z"));
}

#[test]
fn json_round_trip_is_byte_exact() {
    let json = "\"2018-01-01T06:38:25.807500+00:00\"";
    let instant: Instant = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&instant).unwrap(), json);
}

#[test]
fn later_keeps_offset_and_digits() {
    for (start, end) in [
        ("2018-01-01T06:38:25.807500+00:00", "2018-01-01T07:38:25.807500+00:00"),
        ("2018-01-01T23:30:00Z", "2018-01-02T00:30:00Z"),
        ("2018-01-01T23:30:00.120-05:00", "2018-01-02T00:30:00.120-05:00"),
        ("2016-02-28T23:30:00+05:45", "2016-02-29T00:30:00+05:45"),
    ] {
        assert_eq!(parse(start).later(60).unwrap().as_str(), end);
    }
    let precise = parse("2016-02-29T00:30:00.1Z").plus(SignedDuration::from_millis(1250)).unwrap();
    assert_eq!(precise.as_str(), "2016-02-29T00:30:01.35Z", "as many digits as it takes");
    let error = parse("9999-12-30T21:30:00Z").later(60 * 24).unwrap_err();
    assert_eq!(error.code, code::TIME_INVALID);
}

#[test]
fn says_what_is_wrong() {
    for (text, why) in [
        ("", "is not a time"),
        ("2018", "no time of day"),
        ("2018-01-01", "no time of day"),
        ("2018-01-01T06:38:25", "no offset"),
        ("2018-01-01T06:38Z", "not RFC 3339"),
        ("20180101T063825Z", "not RFC 3339"),
        ("2018-W01-1T06:38:25Z", "not RFC 3339"),
        ("2018-01-01T06:38:25.Z", "not RFC 3339"),
        ("2018-01-01T06:38:25+0530", "not RFC 3339"),
        ("2018-01-01T06:38:25Z[UTC]", "not RFC 3339"),
        ("2018-02-30T06:38:25Z", "is not a time"),
        ("2018-01-01T25:00:00Z", "is not a time"),
        ("２０１８-01-01T06:38:25Z", "is not a time"),
    ] {
        let fault = Instant::parse("period.start", text).unwrap_err();
        assert_eq!(
            (fault.code.as_str(), fault.path.as_str()),
            (code::TIME_INVALID, "period.start"),
            "{text}"
        );
        assert_eq!(fault.value, text);
        assert!(fault.message.contains(why), "{text}: {}", fault.message);
    }
}
