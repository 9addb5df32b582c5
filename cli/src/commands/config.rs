//! `retainai config`: the settings in force, where each comes from, and what it means. Secrets are masked.

use crate::output::print_json;
use crate::settings::{SPECS, Settings, masked};
use serde_json::{Map, Value, json};

/// Prints them.
pub fn run(settings: &Settings, as_json: bool) -> anyhow::Result<u8> {
    if as_json {
        let mut document = Map::new();
        for spec in SPECS {
            let value = &settings.values[spec.key];
            document.insert(
                spec.key.to_owned(),
                json!({ "value": masked(spec.key, &value.text), "origin": value.origin, "default": spec.default, "meaning": spec.help }),
            );
        }
        print_json(&Value::Object(document))?;
        return Ok(0);
    }
    for spec in SPECS {
        let value = &settings.values[spec.key];
        crate::output::outln!("# {} (RETAINAI_{}; from {})", spec.help, spec.key.to_ascii_uppercase(), value.origin);
        crate::output::outln!("{} = {:?}\n", spec.key, masked(spec.key, &value.text));
    }
    Ok(0)
}
