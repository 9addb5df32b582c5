//! What a replay found: of everything a run made, whether making it again gave the same bits. In come what was and what is, out go the
//! differences, field by field.

use serde_json::Value;
use workflows::plan::Step;
use workflows::stores::made_with::Version;

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// What a step read, by its hashes.
    Inputs,
    /// A ticker's own model.
    Model,
    /// An exchange's global model.
    GlobalModel,
    /// A forecast, served or not.
    Forecast,
}

/// One field that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) then: String,
    pub(crate) now: String,
}

/// What came of making it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The same bits.
    Same,
    /// Other bits.
    Different(Vec<Difference>),
    /// It could not be made again, for this reason.
    NotReplayable(String),
}

/// One thing that the run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) step: Step,
    pub(crate) what: What,
    /// A model's hash, a forecast's id, an input's hash.
    pub(crate) name: Option<String>,
    /// Whose numbers a forecast carries.
    pub(crate) made_by: Option<market::MadeBy>,
    pub(crate) finding: Finding,
    /// By which arithmetic it was made; `None` where nobody noted it.
    pub(crate) then: Option<Version>,
    /// The recipe it was made by now; `None` where none took part.
    pub(crate) recipe_now: Option<String>,
}

impl Item {
    /// Made before records were kept.
    pub(crate) fn unrecorded(step: Step) -> Self {
        let what = match step {
            Step::Cache => What::Forecast,
            Step::Pretrain => What::GlobalModel,
            _ => What::Model,
        };
        let why = "it was made before what it was made with was recorded".to_owned();
        Self {
            step,
            what,
            name: None,
            made_by: None,
            finding: Finding::NotReplayable(why),
            then: None,
            recipe_now: None,
        }
    }

    pub(crate) fn of(step: Step, what: What, name: impl Into<String>, then: &Version, finding: Finding) -> Self {
        Self { name: Some(name.into()), finding, then: Some(then.clone()), what, ..Self::unrecorded(step) }
    }
}

impl Finding {
    /// Same where there is no difference.
    pub(crate) fn of(differences: Vec<Difference>) -> Self {
        if differences.is_empty() { Finding::Same } else { Finding::Different(differences) }
    }
}

/// The whole run's: different where anything differs, same where anything was made again, else nothing could be replayed. Inputs that can be read
/// again prove nothing by themselves.
pub(crate) fn verdict(items: &[Item]) -> Finding {
    if items.iter().any(|item| matches!(item.finding, Finding::Different(_))) {
        return Finding::Different(vec![]);
    }
    if items.iter().any(|item| item.finding == Finding::Same && item.what != What::Inputs) {
        return Finding::Same;
    }
    Finding::NotReplayable("nothing that the run made could be made again".to_owned())
}

/// One field compared.
pub(crate) fn compare(field: &str, then: &str, now: &str) -> Option<Difference> {
    let difference = || Difference { field: field.to_owned(), then: then.to_owned(), now: now.to_owned() };
    (then != now).then(difference)
}

/// All leaves of two documents compared; `under` is the name of the field that holds them, or nothing.
pub(crate) fn compare_all(under: &str, then: &Value, now: &Value) -> Vec<Difference> {
    let inner = |name: &str| if under.is_empty() { name.to_owned() } else { format!("{under}.{name}") };
    match (then, now) {
        (Value::Object(then_fields), Value::Object(now_fields)) => {
            let names = then_fields.keys().chain(now_fields.keys().filter(|name| !then_fields.contains_key(*name)));
            names.flat_map(|name| compare_all(&inner(name), &then[name], &now[name])).collect()
        }
        _ if then == now => vec![],
        _ => vec![Difference { field: under.to_owned(), then: then.to_string(), now: now.to_string() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(what: What, finding: Finding) -> Item {
        Item { what, finding, ..Item::unrecorded(Step::Cache) }
    }

    #[test]
    fn one_last_bit_is_told_by_its_field() {
        let then = json!({ "point": 100.1, "interval80": { "lo": 99.0, "hi": 101.0 }, "p_up": null });
        let mut now = then.clone();
        assert_eq!(compare_all("", &then, &now), vec![]);
        now["interval80"]["hi"] = json!(f64::from_bits(101.0f64.to_bits() + 1));
        now["p_up"] = json!(0.5);
        let found = compare_all("", &then, &now);
        let fields: Vec<&str> = found.iter().map(|difference| difference.field.as_str()).collect();
        assert_eq!(fields, ["interval80.hi", "p_up"]);
        assert_eq!((found[0].then.as_str(), found[1].then.as_str()), ("101.0", "null"));
        assert_ne!(found[0].then, found[0].now);
    }

    #[test]
    fn inputs_alone_prove_nothing_and_one_difference_is_enough() {
        let gone = Finding::NotReplayable("gone".to_owned());
        let inputs = item(What::Inputs, Finding::Same);
        assert!(matches!(verdict(&[inputs.clone(), item(What::Model, gone.clone())]), Finding::NotReplayable(_)));
        assert!(matches!(verdict(&[]), Finding::NotReplayable(_)));
        let same = item(What::Forecast, Finding::Same);
        assert_eq!(verdict(&[inputs, item(What::Model, gone), same.clone()]), Finding::Same);
        let other = item(What::Inputs, Finding::Different(vec![]));
        assert!(matches!(verdict(&[same, other]), Finding::Different(_)));
    }
}
