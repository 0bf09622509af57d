use super::*;

fn faults(text: &[u8]) -> Vec<Fault> {
    resources(text, 1).filter_map(|(_, one)| one.err()).collect()
}

#[test]
fn counts_lines_over_blank_ones_and_carriage_returns() {
    let text = b"{\"resourceType\":\"Patient\",\"id\":\"p1\"}\r\n\n  \n{\"resourceType\":\"Patient\",\"id\":\"p2\"}";
    let lines: Vec<u64> = resources(text, 41)
        .map(|(line, one)| {
            one.unwrap();
            line
        })
        .collect();
    assert_eq!(lines, [41, 44]);
}

#[test]
fn every_fault_has_line_path_and_value() {
    type Expected = (&'static str, &'static str, &'static str);
    let cases: [(&str, Expected); 9] = [
        (
            "{\"resourceType\":\"Patient\",\"id\":",
            (code::NDJSON_INVALID, "", "{\"resourceType\":\"Patient\",\"id\":"),
        ),
        (
            "{\"resourceType\":\"Patient\"} {}",
            (code::NDJSON_INVALID, "", "{\"resourceType\":\"Patient\"} {}"),
        ),
        ("[]", (code::FIELD_INVALID, "resourceType", "")),
        ("{}", (code::FIELD_INVALID, "resourceType", "")),
        ("{\"resourceType\":\"Device\"}", (code::RESOURCE_UNSUPPORTED, "resourceType", "Device")),
        ("{\"resourceType\":\"Patient\",\"id\":\"a/b\"}", (code::FIELD_INVALID, "id", "a/b")),
        (
            "{\"resourceType\":\"Encounter\",\"id\":\"e\",\"status\":\"done\"}",
            (code::FIELD_INVALID, "status", "done"),
        ),
        (
            "{\"resourceType\":\"Encounter\",\"id\":\"e\",\"status\":\"finished\",\"location\":[{},{\"location\":3}]}",
            (code::FIELD_INVALID, "location[0]", ""),
        ),
        (
            "{\"resourceType\":\"Appointment\",\"id\":\"a\",\"status\":\"booked\",\"start\":\"2018-01-01\"}",
            (code::FIELD_INVALID, "start", "2018-01-01"),
        ),
    ];
    for (text, (code, path, value)) in cases {
        let input = format!("\n{text}\n");
        let found = faults(input.as_bytes());
        assert_eq!(found.len(), 1, "{text}");
        let found = &found[0];
        assert_eq!(
            (found.code.as_str(), found.line, found.path.as_str(), found.value.as_str()),
            (code, Some(2), path, value),
            "{text}: {found}"
        );
    }
}

#[test]
fn refuses_what_is_not_text_or_too_long() {
    let found = faults(b"{\"resourceType\":\"\xff\"}");
    assert!(found[0].message.contains("UTF-8 from byte 18"), "{}", found[0]);
    let long = format!(
        "{{\"resourceType\":\"Patient\",\"id\":\"p\",\"x\":\"{}\"}}",
        "y".repeat(LONGEST_LINE)
    );
    assert_eq!(faults(long.as_bytes())[0].code, code::NDJSON_INVALID);
}
