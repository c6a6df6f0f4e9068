//! JSON Schema, as far as our OpenAPI document uses it. A keyword that is not known here fails the test, so none is passed over.

use serde_json::Value;

/// What is wrong with `value` by `schema`, whose references lead into `document`; empty if nothing is.
pub fn flaws(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let Some(keywords) = schema.as_object() else { return Vec::new() };
    keywords
        .iter()
        .flat_map(|(keyword, wanted)| keyword_flaws(document, schema, keyword, wanted, value))
        .collect()
}

fn keyword_flaws(
    document: &Value,
    schema: &Value,
    keyword: &str,
    wanted: &Value,
    value: &Value,
) -> Vec<String> {
    let all = |flaws: &mut dyn Iterator<Item = Vec<String>>| flaws.flatten().collect::<Vec<_>>();
    let holds = match keyword {
        "description" | "default" => true,
        "$ref" => {
            let path =
                wanted.as_str().and_then(|path| path.strip_prefix('#')).expect("a place in the document");
            return flaws(document, document.pointer(path).expect("it leads somewhere"), value);
        }
        "type" => match wanted.as_array() {
            Some(types) => types.iter().any(|one| is_of(one, value)),
            None => is_of(wanted, value),
        },
        "enum" => wanted.as_array().expect("a list").contains(value),
        "const" => wanted == value,
        "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().expect("a number")),
        "required" => {
            let mut names = wanted.as_array().expect("a list").iter();
            value
                .as_object()
                .is_none_or(|fields| names.all(|name| fields.contains_key(name.as_str().expect("a name"))))
        }
        "additionalProperties" => {
            assert_eq!(wanted, false, "what else it can be is not known here");
            let known = schema["properties"].as_object().expect("the properties stand beside");
            value.as_object().is_none_or(|fields| fields.keys().all(|name| known.contains_key(name)))
        }
        "properties" => {
            let known = wanted.as_object().expect("properties").iter();
            return all(
                &mut known.filter_map(|(name, schema)| Some(flaws(document, schema, value.get(name)?)))
            );
        }
        "items" => {
            return all(&mut value
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| flaws(document, wanted, item)));
        }
        "oneOf" => {
            let schemas = wanted.as_array().expect("a list").iter();
            schemas.filter(|schema| flaws(document, schema, value).is_empty()).count() == 1
        }
        other => panic!("the keyword {other} is not known here"),
    };
    if holds { Vec::new() } else { vec![format!("{value} is not {keyword}: {wanted}")] }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type {other} is not known here"),
    }
}

#[test]
fn what_is_not_as_described_is_found() {
    use serde_json::json;
    let document = json!({"id": {"type": "integer", "minimum": 1}});
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["a"],
        "properties": {"a": {"$ref": "#/id"}, "b": {"type": ["string", "null"]}, "c": {"type": "array", "items": {"enum": [1, 2]}}}
    });
    let count = |value: Value| flaws(&document, &schema, &value).len();
    assert_eq!(count(json!({"a": 1, "b": null, "c": [1, 2]})), 0);
    for wrong in [
        json!([]),
        json!({}),
        json!({"a": 0}),
        json!({"a": "1"}),
        json!({"a": 1, "d": 1}),
        json!({"a": 1, "b": 1}),
        json!({"a": 1, "c": [3]}),
    ] {
        assert_eq!(count(wrong.clone()), 1, "{wrong}");
    }
    let one = json!({"oneOf": [{"type": "string"}, {"const": 1}]});
    assert!(flaws(&document, &one, &json!(1)).is_empty() && !flaws(&document, &one, &json!(2)).is_empty());
}
