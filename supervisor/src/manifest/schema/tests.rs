use proptest::prelude::*;
use serde_json::json;

use super::*;

fn schema(source: Value) -> Schema {
    Schema::try_from(source).unwrap()
}

fn fault(schema: &Schema, value: Value) -> (String, String) {
    let SchemaFault { path, why } = schema.check(&value).unwrap_err();
    (path, why)
}

fn clinic() -> Schema {
    schema(json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["timezone", "workingHours"],
        "properties": {
            "defaultDuration": { "type": "integer", "minimum": 1, "maximum": 1440 },
            "timezone": { "type": "string", "minLength": 1 },
            "workingHours": {
                "type": "object",
                "required": ["start", "end"],
                "properties": { "start": { "type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$" } },
            },
            "workingDays": {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": { "enum": ["mon", "tue"] },
            },
        },
    }))
}

#[test]
fn a_fault_has_its_path_and_value() {
    let clinic = clinic();
    let hours = json!({"start": "09:00", "end": "17:00"});
    let with = |key: &str, value: Value| {
        let mut config = json!({"timezone": "UTC", "workingHours": hours});
        config[key] = value;
        config
    };
    assert_eq!(clinic.check(&with("defaultDuration", json!(60))), Ok(()));
    for (key, value, path, why) in [
        ("defaultDuration", json!(0), "defaultDuration", "0 is less than 1"),
        ("defaultDuration", json!(1.5), "defaultDuration", "1.5 is not of type integer"),
        ("defaultDuration", json!("60"), "defaultDuration", "\"60\" is not of type integer"),
        ("timezone", json!(""), "timezone", "0 characters are fewer than 1"),
        ("workingDays", json!([]), "workingDays", "0 items are fewer than 1"),
        ("workingDays", json!(["mon", "mon"]), "workingDays", "\"mon\" is there twice"),
        ("workingDays", json!(["mon", "sun"]), "workingDays[1]", "\"sun\" is not one of"),
        ("workingHours", json!({"start": "9"}), "workingHours.start", "does not match"),
        ("workingHours", json!({"start": "09:00"}), "workingHours.end", "required"),
        ("timezon", json!("UTC"), "timezon", "there are defaultDuration, timezone"),
    ] {
        let (found, text) = fault(&clinic, with(key, value.clone()));
        assert_eq!(found, path, "{key} = {value}: {text}");
        assert!(text.contains(why), "{key} = {value}: {text}");
    }
    assert_eq!(fault(&clinic, json!([])).0, "");
}

#[test]
fn defaults_need_not_be_complete_but_right() {
    assert_eq!(clinic().check_defaults(&json!({"workingHours": {}})), Ok(()));
    assert!(clinic().check_defaults(&json!({"timezone": 1})).is_err());
    assert!(clinic().check(&json!({"workingHours": {}})).is_err());
}

#[test]
fn bounds_and_alternatives() {
    let open = schema(json!({"exclusiveMinimum": 0, "exclusiveMaximum": 1}));
    assert!(open.check(&json!(0.5)).is_ok());
    assert!(open.check(&json!(0)).is_err() && open.check(&json!(1)).is_err());
    let either = schema(json!({"type": ["integer", "null"], "maximum": 3}));
    assert!(either.check(&json!(null)).is_ok() && either.check(&json!(3.0)).is_ok());
    assert!(either.check(&json!("x")).is_err() && either.check(&json!(4)).is_err());
    let like = schema(json!({"additionalProperties": {"type": "string", "maxLength": 2}}));
    assert!(like.check(&json!({"a": "ää"})).is_ok());
    assert_eq!(fault(&like, json!({"a": "äää"})).0, "a");
    assert!(schema(json!({"const": 7})).check(&json!(8)).is_err());
    assert!(schema(json!({"maxItems": 1})).check(&json!([1, 2])).is_err());
}

#[test]
fn what_is_not_held_is_not_promised() {
    for (source, path) in [
        (json!({"oneOf": []}), ".oneOf"),
        (json!({"properties": {"a": {"typ": "string"}}}), ".properties.a.typ"),
        (json!({"type": "text"}), ".type"),
        (json!({"pattern": "("}), ".pattern"),
        (json!({"minLength": -1}), ".minLength"),
        (json!({"items": 3}), ".items"),
        (json!({"required": "a"}), ".required"),
        (json!({"enum": []}), ".enum"),
        (json!([]), ""),
    ] {
        assert_eq!(Schema::try_from(source.clone()).unwrap_err().path, path, "{source}");
    }
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "items": deep });
    }
    assert!(Schema::try_from(deep).unwrap_err().why.contains("deeper"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    let keys = prop_oneof![
        Just("type".to_owned()),
        Just("items".to_owned()),
        Just("properties".to_owned()),
        Just("minimum".to_owned()),
        "[a-z]{0,4}",
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(source in any_json(), value in any_json()) {
        if let Ok(schema) = Schema::try_from(source) {
            let _ = schema.check(&value);
        }
        let _ = clinic().check(&value);
    }
}

#[test]
fn names_have_a_schema_too() {
    let schema = schema(json!({
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]+$", "maxLength": 3},
        "additionalProperties": {"type": "integer"},
    }));
    assert_eq!(schema.check(&json!({"abc": 1})), Ok(()));
    let (path, why) = fault(&schema, json!({"aBc": 1}));
    assert_eq!(path, "aBc");
    assert!(why.contains("does not match"), "{why}");
    assert!(fault(&schema, json!({"abcd": 1})).1.contains("more than 3"));
}
