//! Lists on links: how often a node runs, on which elements, and what becomes of its answers.
//!
//! # Source
//! The rules are those of ComfyUI 0.3.64: a node runs once per element of its longest input, a shorter input repeats
//! its last element, and a node that takes lists gets them whole and runs once.

use crate::data::Data;
use crate::inputs::Inputs;
use crate::node::{NodeError, Outputs};
use comfy_graph::OutputSpec;
use serde_json::{Map, Value as Json};

/// The inputs of each run of a node. A node without inputs runs once.
///
/// # Errors
/// When a node that takes single values is given an empty list.
pub(crate) fn runs(values: &[(String, Data)], takes_lists: bool) -> Result<Vec<Inputs>, NodeError> {
    if takes_lists {
        let whole = |(name, data): &(String, Data)| (name.clone(), Data::List(data.items().to_vec()));
        return Ok(vec![Inputs::new(values.iter().map(whole))]);
    }
    if let Some((name, _)) = values.iter().find(|(_, data)| data.items().is_empty()) {
        return Err(NodeError::invalid(format!(
            "input `{name}` is an empty list, there is nothing to run on"
        )));
    }
    let count = values.iter().map(|(_, data)| data.items().len()).max().unwrap_or(1);
    let run = |index: usize| {
        Inputs::new(values.iter().map(|(name, data)| {
            let items = data.items();
            (name.clone(), items[index.min(items.len() - 1)].clone())
        }))
    };
    Ok((0..count).map(run).collect())
}

/// Whether an input of a run has no value, and the first text that says why.
pub(crate) fn blocked(inputs: &Inputs) -> Option<Option<String>> {
    let mut found = None;
    for data in inputs.values().flat_map(Data::items) {
        match data {
            Data::Blocked(Some(message)) => return Some(Some(message.clone())),
            Data::Blocked(None) => found = Some(None),
            _ => {}
        }
    }
    found
}

/// The answers of the runs of one node, put together.
pub(crate) struct Gathered<'a> {
    specs: &'a [OutputSpec],
    slots: Vec<Vec<Data>>,
    ui: Option<Map<String, Json>>,
}

impl<'a> Gathered<'a> {
    pub(crate) fn new(specs: &'a [OutputSpec]) -> Self {
        Self { specs, slots: vec![Vec::new(); specs.len()], ui: None }
    }

    /// A run that did not take place: whatever needs it does not run either, and nobody is told twice.
    pub(crate) fn block(&mut self) {
        for slot in &mut self.slots {
            slot.push(Data::Blocked(None));
        }
    }

    /// Adds the answer of a run. Lists are joined, and so is what the UI may show.
    ///
    /// # Errors
    /// When the node gave something else than its spec says.
    pub(crate) fn add(&mut self, outputs: Outputs) -> Result<(), NodeError> {
        if outputs.slots.len() != self.specs.len() {
            let (got, want) = (outputs.slots.len(), self.specs.len());
            return Err(NodeError::internal(format!("the node gave {got} outputs, its spec says {want}")));
        }
        for ((gathered, spec), data) in self.slots.iter_mut().zip(self.specs).zip(outputs.slots) {
            match data {
                Data::List(items) if spec.is_list => gathered.extend(items),
                Data::List(_) => {
                    let message =
                        format!("the node gave a list as output `{}`, its spec says one value", spec.name);
                    return Err(NodeError::internal(message));
                }
                single => gathered.push(single),
            }
        }
        match outputs.ui {
            Some(Json::Object(shown)) => self.show(shown),
            Some(_) => return Err(NodeError::internal("what the node shows is not a JSON object")),
            None => {}
        }
        Ok(())
    }

    fn show(&mut self, shown: Map<String, Json>) {
        let ui = self.ui.get_or_insert_default();
        for (key, value) in shown {
            match (ui.get_mut(&key), value) {
                (Some(Json::Array(earlier)), Json::Array(more)) => earlier.extend(more),
                (_, value) => {
                    ui.insert(key, value);
                }
            }
        }
    }

    pub(crate) fn finish(self) -> Outputs {
        let slots = self.slots.into_iter().map(Data::from_items).collect();
        Outputs { slots, ui: self.ui.map(Json::Object), expansion: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comfy_graph::Literal;
    use serde_json::json;

    fn int(value: i128) -> Data {
        Data::Literal(Literal::Int(value))
    }

    fn ints(values: &[i128]) -> Data {
        Data::List(values.iter().copied().map(int).collect())
    }

    /// What each run sees of inputs `a` and `b`.
    fn check(a: Data, b: Data, expected: &[(i128, i128)]) {
        let runs = runs(&[("a".into(), a), ("b".into(), b)], false).unwrap();
        let seen: Vec<_> = runs.iter().map(|r| (r.int("a").unwrap(), r.int("b").unwrap())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn shorter_inputs_repeat_their_last_element() {
        check(int(1), int(2), &[(1, 2)]);
        check(ints(&[1, 2, 3]), int(9), &[(1, 9), (2, 9), (3, 9)]);
        check(ints(&[1, 2, 3]), ints(&[7, 8]), &[(1, 7), (2, 8), (3, 8)]);
        assert_eq!(runs(&[], false).unwrap().len(), 1);
        let message = runs(&[("a".into(), ints(&[]))], false).unwrap_err().message;
        assert_eq!(message, "input `a` is an empty list, there is nothing to run on");
    }

    #[test]
    fn a_node_that_takes_lists_runs_once() {
        let runs = runs(&[("a".into(), ints(&[1, 2])), ("b".into(), int(5))], true).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].list("a").unwrap(), [int(1), int(2)]);
        assert_eq!(runs[0].list("b").unwrap(), [int(5)]);
        assert_eq!(runs[0].int("b").unwrap(), 5);
        assert!(runs[0].images("a").is_err() && runs[0].list("c").is_err());
    }

    #[test]
    fn blocked_elements_are_found() {
        let inputs = |data| Inputs::new([("a".to_owned(), int(1)), ("b".to_owned(), data)]);
        assert_eq!(blocked(&inputs(int(2))), None);
        assert_eq!(blocked(&inputs(Data::Blocked(None))), Some(None));
        let list = Data::List(vec![Data::Blocked(None), Data::Blocked(Some("why".into()))]);
        assert_eq!(blocked(&inputs(list)), Some(Some("why".into())));
    }

    #[test]
    fn answers_are_joined() {
        let specs = [OutputSpec::of("INT"), OutputSpec::of("INT").list()];
        let mut gathered = Gathered::new(&specs);
        let answer = |slots, ui| Outputs { slots, ui: Some(ui), ..Outputs::default() };
        gathered.add(answer(vec![int(1), ints(&[10, 11])], json!({"images": [1]}))).unwrap();
        gathered.add(answer(vec![int(2), ints(&[])], json!({"images": [2], "text": ["t"]}))).unwrap();
        gathered.block();
        let outputs = gathered.finish();
        let none = Data::Blocked(None);
        assert_eq!(outputs.slots[0], Data::List(vec![int(1), int(2), none.clone()]));
        assert_eq!(outputs.slots[1], Data::List(vec![int(10), int(11), none]));
        assert_eq!(outputs.ui, Some(json!({"images": [1, 2], "text": ["t"]})));
        let mut wrong = Gathered::new(&specs);
        assert!(wrong.add(Outputs::one(int(1))).is_err());
        assert!(wrong.add(Outputs::many(vec![ints(&[1, 2]), int(1)])).is_err());
    }
}
