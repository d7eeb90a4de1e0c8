//! A reader of pipelines: the source of a resource, and the values of `((variables))`.
//!
//! Fact: concourse, `vars/template.go` and `vars/named_variables.go`: a text that is one variable becomes its value,
//! whatever its type; within a text, a value must be a text, a number or a boolean.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Why a pipeline has no source for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    /// It has no list of resources.
    #[error("it has no list `resources`")]
    NoResources,
    /// There is no such resource.
    #[error("it has no resource {name}; it has {}", list(there))]
    NoSuchResource {
        /// The name.
        name: String,
        /// The resources of git-image that there are.
        there: Vec<String>,
    },
    /// No resource is one of git-image.
    #[error("it has no resource whose source has `git` and `registry`")]
    NoImage,
    /// Several are.
    #[error("it has several resources of git-image: {}", list(there))]
    Several {
        /// Their names.
        there: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none of git-image".to_owned() } else { names.join(", ") }
}

/// The source of a resource of git-image. Without a name, it must be the only one. The rules that the pipeline gives the
/// reaper of this image, a task with the params `SOURCE` and `GRACE`, are its `reap`, unless it has one.
///
/// # Errors
///
/// There is none, or there are several.
pub fn source(pipeline: &Value, name: Option<&str>) -> Result<Value, PipelineError> {
    let resources = pipeline.get("resources").and_then(Value::as_array).ok_or(PipelineError::NoResources)?;
    let is_image = |resource: &&Value| {
        // The type has the name that its user gave it; only our source has these two blocks.
        let source = &resource["source"];
        source.get("git").is_some() && source.get("registry").is_some()
    };
    let name_of = |resource: &Value| resource["name"].as_str().unwrap_or_default().to_owned();
    let images: Vec<&Value> = resources.iter().filter(is_image).collect();
    let there = || images.iter().map(|resource| name_of(resource)).collect();
    let source = match name {
        Some(name) => {
            let found = images.iter().find(|resource| name_of(resource) == name);
            let found = found.ok_or_else(|| PipelineError::NoSuchResource { name: name.to_owned(), there: there() });
            found.map(|resource| resource["source"].clone())
        }
        None => match images.as_slice() {
            [] => Err(PipelineError::NoImage),
            [resource] => Ok(resource["source"].clone()),
            [..] => Err(PipelineError::Several { there: there() }),
        },
    };
    source.map(|source| with_rules_of_reaper(source, pipeline))
}

/// Whoever reaps by hand goes by the rules of the pipeline.
fn with_rules_of_reaper(mut source: Value, pipeline: &Value) -> Value {
    let Some(params) = params_of_reaper(pipeline.get("jobs"), &source["registry"]["repository"]) else { return source };
    let mut rules = params["SOURCE"].get("reap").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if let (Value::Object(rules), Some(grace)) = (&mut rules, params.get("GRACE")) {
        rules.entry("grace").or_insert_with(|| grace.clone());
    }
    if let Value::Object(source) = &mut source {
        source.entry("reap").or_insert(rules);
    }
    source
}

/// The params of the task that reaps a repository of a registry, however deep its step lies.
fn params_of_reaper<'p>(steps: Option<&'p Value>, repository: &Value) -> Option<&'p Value> {
    match steps? {
        Value::Array(steps) => steps.iter().find_map(|step| params_of_reaper(Some(step), repository)),
        Value::Object(step) => {
            let is_reaper = |params: &&Value| {
                let its = &params["SOURCE"]["registry"]["repository"];
                params.get("GRACE").is_some() && !its.is_null() && its == repository
            };
            let within = || step.values().find_map(|value| params_of_reaper(Some(value), repository));
            step.get("params").filter(is_reaper).or_else(within)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Values of variables, by name. A name with dots is a field of another one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables(Map<String, Value>);

impl Variables {
    /// Adds the values of a file. What was given before and is given again has the new value.
    ///
    /// # Errors
    ///
    /// It is not a block: gives back what it is.
    pub fn add_all(&mut self, values: Value) -> Result<(), Value> {
        match values {
            Value::Null => {}
            Value::Object(values) => self.0.extend(values),
            other => return Err(other),
        }
        Ok(())
    }

    /// Adds one value.
    pub fn add(&mut self, name: &str, value: Value) {
        let parts = parts(name);
        let Some((last, outer)) = parts.split_last() else { return };
        let mut map = &mut self.0;
        for part in outer {
            let inner = map.entry(part.clone()).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            let Value::Object(inner) = inner else { return };
            map = inner;
        }
        map.insert(last.clone(), value);
    }

    /// The value of `name`, `name.field`, `"na.me"`. Variables of a named source (`vault:…`) and local ones (`.:…`)
    /// have none here.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut parts = parts(name).into_iter();
        let mut value = self.0.get(&parts.next()?)?;
        for part in parts {
            value = value.get(&part)?;
        }
        Some(value)
    }

    /// Fills in every variable that has a value, in all texts below `value`.
    pub fn fill(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.fill_text(text),
            Value::Array(items) => items.into_iter().map(|item| self.fill(item)).collect(),
            Value::Object(map) => map.into_iter().map(|(key, value)| (key, self.fill(value))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    fn fill_text(&self, text: String) -> Value {
        let found = references(&text);
        if let [(start, end, name)] = found.as_slice()
            && (*start, *end) == (0, text.len())
        {
            return self.get(name).cloned().unwrap_or(Value::String(text));
        }
        let mut filled = String::new();
        let mut rest = 0;
        for (start, end, name) in found {
            let value = match self.get(name) {
                Some(Value::String(value)) => value.clone(),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
                Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => continue,
            };
            filled += &text[rest..start];
            filled += &value;
            rest = end;
        }
        Value::String(filled + &text[rest..])
    }
}

/// The names of all variables in the texts below a value.
pub fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => references(text).into_iter().map(|(_, _, name)| name.to_owned()).collect(),
        Value::Array(items) => items.iter().flat_map(names).collect(),
        Value::Object(map) => map.values().flat_map(names).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => BTreeSet::new(),
    }
}

/// Each `((name))` of a text: where it begins, where it ends, and the name.
fn references(text: &str) -> Vec<(usize, usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("((").map(|start| at + start) {
        let Some(end) = text[start..].find("))").map(|end| start + end) else { break };
        let name = text[start + 2..end].trim();
        let is_name = |c: char| c.is_alphanumeric() || "-_./:\"".contains(c);
        // A `((` within is where the variable begins.
        if !name.is_empty() && name.chars().all(is_name) {
            found.push((start, end + 2, name));
            at = end + 2;
        } else {
            at = start + 1;
        }
    }
    found
}

/// The parts of a name: the variable, and the fields that lead into it. What stands in quotes may have dots.
fn parts(name: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for c in name.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        let file = json!({"host": "h", "port": 50, "registry": {"user": "u", "a.b": "c"}, "list": ["x"], "none": null});
        variables.add_all(file).expect("it is a block");
        variables.add("registry.password", json!("p"));
        variables.add("host", json!("g"));
        variables
    }

    #[test]
    fn variables_are_filled_in_as_concourse_does() {
        for (text, expected) in [
            ("((host))", json!("g")),
            ("((port))", json!(50)),
            ("((list))", json!(["x"])),
            ("((registry.user))", json!("u")),
            ("((registry.\"a.b\"))", json!("c")),
            ("((registry.password))", json!("p")),
            ("((host)):((port))/((other))", json!("g:50/((other))")),
            ("(((host)))", json!("(g)")),
            ("a((list))b", json!("a((list))b")),
            ("((vault:host))", json!("((vault:host))")),
            ("((.:host))", json!("((.:host))")),
            ("((registry.user.more))", json!("((registry.user.more))")),
            ("((", json!("((")),
            ("(( host ))", json!("g")),
            ("((a b))", json!("((a b))")),
        ] {
            assert_eq!(variables().fill(json!({"a": [text]})), json!({"a": [expected]}), "{text}");
        }
        assert_eq!(
            names(&json!({"a": ["((x))-((y.z))", 1], "b": "((x))"})),
            BTreeSet::from(["x".to_owned(), "y.z".to_owned()])
        );
        assert_eq!(Variables::default().add_all(json!(["a"])), Err(json!(["a"])));
    }

    #[test]
    fn the_rules_of_the_reaper_of_the_pipeline_hold_by_hand_too() {
        let reaps = |repository: &str, reap: Value, grace: &str| {
            let which = json!({"git": {}, "registry": {"repository": repository}, "reap": reap});
            json!({"in_parallel": [{"task": "reap", "params": {"SOURCE": which, "GRACE": grace}}]})
        };
        let badge = json!({"task": "badge", "params": {"SOURCE": {"registry": {"repository": "a"}, "reap": {"max_delete": 1}}}});
        let jobs = json!([{"name": "x", "plan": [badge]}, {"name": "reap", "plan": [
            reaps("b", json!({"keep_last": 1}), "1h"), reaps("a", json!({"keep_last": 3}), "7d"),
        ]}]);
        let of = |source: Value| {
            let pipeline = json!({"resources": [{"name": "image", "source": source}], "jobs": jobs});
            super::source(&pipeline, None).map(|source| source["reap"].clone()).map_err(|error| error.to_string())
        };
        let image = |repository: &str| json!({"git": {}, "registry": {"repository": repository}});
        assert_eq!(of(image("a")), Ok(json!({"keep_last": 3, "grace": "7d"})));
        assert_eq!(of(image("c")), Ok(Value::Null));
        let own = json!({"git": {}, "registry": {"repository": "a"}, "reap": {"keep_last": 9}});
        assert_eq!(of(own), Ok(json!({"keep_last": 9})));
    }

    #[test]
    fn the_source_is_that_of_the_only_resource_of_git_image_or_of_the_named_one() {
        let image =
            |name: &str| json!({"name": name, "type": "t", "source": {"git": {}, "registry": {"repository": name}}});
        let repo = json!({"name": "repo", "type": "git", "source": {"uri": "u"}});
        let one = json!({"resources": [repo, image("a")]});
        let two = json!({"resources": [image("a"), repo, image("b")]});
        let repository = |pipeline, name| {
            source(pipeline, name).map(|source| source["registry"]["repository"].clone()).map_err(|e| e.to_string())
        };
        assert_eq!(repository(&one, None), Ok(json!("a")));
        assert_eq!(repository(&two, Some("b")), Ok(json!("b")));
        for (pipeline, name, message) in [
            (&two, None, "it has several resources of git-image: a, b"),
            (&two, Some("repo"), "it has no resource repo; it has a, b"),
            (&json!({"resources": [repo]}), None, "it has no resource whose source has `git` and `registry`"),
            (&json!({"resources": []}), Some("x"), "it has no resource x; it has none of git-image"),
            (&json!({"jobs": []}), None, "it has no list `resources`"),
            (&json!(null), None, "it has no list `resources`"),
        ] {
            assert_eq!(repository(pipeline, name), Err(message.to_owned()));
        }
    }
}
