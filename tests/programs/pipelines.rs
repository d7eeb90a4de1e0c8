//! The templates of pipelines: their parts fit together, their README is true, and our programs take what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git_image::pipeline::{Variables, names};
use git_image::request::{CheckRequest, GetRequest, PutRequest, Request as _, Source};
use git_image::yaml;
use serde_json::{Value, json};

const TEMPLATES: [(&str, &str); 3] = [
    ("master", include_str!("../../pipelines/master.yml")),
    ("feature-branch", include_str!("../../pipelines/feature-branch.yml")),
    ("branches", include_str!("../../pipelines/branches.yml")),
];
const TASKS: [(&str, &str); 2] = [
    ("reap", include_str!("../../pipelines/tasks/reap.yml")),
    ("badge", include_str!("../../pipelines/tasks/badge.yml")),
];
const VARIABLES: &str = include_str!("../../pipelines/variables.yml");
const README: &str = include_str!("../../pipelines/README.md");

/// The types of resources that every worker of Concourse has, as far as the templates use them.
const TYPES_OF_WORKERS: [&str; 3] = ["git", "registry-image", "time"];

/// Where the image of the resource type has the directory `pipelines`, for a job that got the image as `git-image`.
const IN_THE_IMAGE: &str = "git-image/rootfs/usr/share/git-image/pipelines/";

#[test]
fn every_variable_is_in_the_table_with_its_templates_and_every_one_of_the_table_is_used() {
    let mut used: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (template, pipeline) in templates() {
        for variable in names(&pipeline).into_iter().filter(|name| !name.starts_with(".:")) {
            used.entry(variable).or_default().insert(template);
        }
    }
    let all: BTreeSet<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
    let documented: BTreeMap<String, BTreeSet<&str>> = table("## Variables")
        .map(|row| {
            let places = if row[1] == "all" { all.clone() } else { row[1].split(", ").collect() };
            (quoted(row[0])[0].to_owned(), places)
        })
        .collect();
    assert_eq!(documented, used);
    let local: BTreeSet<String> = templates().values().flat_map(names).filter(|name| name.starts_with(".:")).collect();
    assert_eq!(local, [".:branch", ".:branches", ".:epoch"].map(str::to_owned).into());
}

#[test]
fn the_file_of_variables_has_each_with_its_default_or_its_example() {
    let Value::Object(mut values) = parsed(VARIABLES) else { panic!("it is a block") };
    for row in table("## Variables") {
        let [name, _, kind, default, example, meaning] = row[..] else { panic!("{row:?}") };
        let name = quoted(name)[0];
        let shown = if default == "required" { example } else { default };
        assert_eq!(values.remove(name), Some(shown_value(name, shown)), "{name}");
        let right = match kind.split(", ").next() {
            Some("text") => shown_value(name, example).is_string(),
            Some("boolean") => shown_value(name, example).is_boolean(),
            Some("block") => shown_value(name, example).is_object(),
            _ => false,
        };
        assert!(right && !meaning.is_empty(), "{name}: {kind} {example}");
    }
    assert!(values.is_empty(), "not in the table: {values:?}");
}

#[test]
fn each_template_begins_with_what_it_does_what_it_needs_and_where_its_variables_are() {
    for (name, text) in TEMPLATES {
        let lines: Vec<&str> = text.lines().take(4).collect();
        assert!(lines[..3].iter().all(|line| line.starts_with("# ")) && lines[3].is_empty(), "{name}: {lines:?}");
        assert!(lines[1].starts_with("# Needs ") && lines[2].starts_with("# Variables: "), "{name}: {lines:?}");
    }
}

#[test]
fn yaml_makes_nothing_else_of_any_value_than_is_meant() {
    let flags = ["initial_version", "no_get", "privileged", "reveal", "serial", "trigger"];
    for (name, text) in TEMPLATES.into_iter().chain(TASKS) {
        each(&parsed(text), &mut |key, value| match value {
            Value::Number(_) => assert_eq!(key, "max_in_flight", "{name}: {value}: quote it"),
            Value::Null => panic!("{name}: {key} is empty"),
            Value::Bool(_) => assert!(flags.contains(&key), "{name}: {key}: {value}: quote it"),
            Value::String(_) | Value::Array(_) | Value::Object(_) => {}
        });
        // Other readers of YAML than Concourse's take times for numbers.
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let is_time =
                |word: &str| word.split_once(':').is_some_and(|(hour, rest)| is_digits(hour) && is_digits(rest));
            assert!(!line.split([' ', ',', '[', ']', '{', '}']).any(is_time), "{name}: {line}");
        }
    }
}

#[test]
fn everything_that_is_named_is_there_and_everything_that_is_there_is_used() {
    for (name, pipeline) in templates() {
        let (resources, jobs) = (named(&pipeline["resources"]), named(&pipeline["jobs"]));
        let types = named(&pipeline["resource_types"]);
        let mut used_types = BTreeSet::new();
        for (resource, definition) in &resources {
            let kind = text(&definition["type"]);
            assert!(types.contains_key(kind) || TYPES_OF_WORKERS.contains(&kind), "{name}: {resource} is a {kind}");
            used_types.insert(kind);
        }
        assert!(types.keys().all(|kind| used_types.contains(kind)), "{name}: {types:?}");

        let mut used = BTreeSet::new();
        for (job, definition) in &jobs {
            let steps = steps(definition);
            let fetched: BTreeSet<&str> =
                steps.iter().flat_map(|step| [&step["get"], &step["put"]]).filter_map(Value::as_str).collect();
            for step in &steps {
                for resource in [&step["get"], &step["put"]].into_iter().filter_map(Value::as_str) {
                    assert!(resources.contains_key(resource), "{name}: {job}: no resource {resource}");
                    used.insert(resource);
                    for passed in items(&step["passed"]) {
                        let upstream = jobs.get(text(passed)).unwrap_or_else(|| panic!("{name}: {job}: no {passed}"));
                        let touches = |step: &&Value| step["get"] == resource || step["put"] == resource;
                        assert!(
                            self::steps(upstream).iter().any(touches),
                            "{name}: {job}: {passed} without {resource}"
                        );
                    }
                }
                if let Some(image) = step["image"].as_str() {
                    assert!(fetched.contains(image), "{name}: {job}: no artifact {image}");
                }
                if let Some((artifact, _)) = step["file"].as_str().and_then(|file| file.split_once('/')) {
                    assert!(fetched.contains(artifact), "{name}: {job}: no artifact {artifact}");
                }
            }
        }
        assert_eq!(used, resources.keys().copied().collect(), "{name}");

        let mut grouped: Vec<&str> =
            items(&pipeline["groups"]).flat_map(|group| items(&group["jobs"])).map(text).collect();
        grouped.sort_unstable();
        assert_eq!(grouped, jobs.keys().copied().collect::<Vec<_>>(), "{name}: each job is in one group");
        for group in jobs.values().flat_map(|job| items(&job["serial_groups"])) {
            assert!(!jobs.contains_key(text(group)), "{name}: a serial group is named like a job: {group}");
        }
    }
}

#[test]
fn every_file_of_the_image_that_a_pipeline_names_is_in_the_image() {
    let mut found = BTreeSet::new();
    for value in templates().into_values().chain([parsed(VARIABLES)]) {
        each(&value, &mut |_, value| {
            found.extend(value.as_str().and_then(|text| text.strip_prefix(IN_THE_IMAGE)).map(str::to_owned));
        });
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    assert!(found.len() >= 4 && found.iter().all(|file| directory.join(file).is_file()), "{found:?}");
}

#[test]
fn our_programs_take_the_sources_and_params_of_every_template() {
    let mut seen = 0;
    for (name, pipeline) in templates() {
        let pipeline = filled(&pipeline);
        let resources = named(&pipeline["resources"]);
        for (resource, definition) in resources.iter().filter(|(_, resource)| resource["type"] == "git-image") {
            let source = &definition["source"];
            let request = json!({"source": source}).to_string();
            CheckRequest::parse(request.as_bytes()).unwrap_or_else(|error| panic!("{name}: {resource}: {error}"));
            for step in named(&pipeline["jobs"]).values().flat_map(|job| steps(job)) {
                let version = json!({"ref": "0".repeat(40), "inputs": "1".repeat(64)});
                let request = json!({"source": source, "version": version, "params": step["params"]}).to_string();
                let read = match (step["put"] == *resource, step["get"] == *resource) {
                    (true, _) => {
                        PutRequest::parse(json!({"source": source, "params": step["params"]}).to_string().as_bytes())
                            .map(drop)
                    }
                    (_, true) => GetRequest::parse(request.as_bytes()).map(drop),
                    (false, false) => continue,
                };
                read.unwrap_or_else(|error| panic!("{name}: {step}: {error}"));
                seen += 1;
            }
        }
        // What tasks are told is the same block.
        for step in named(&pipeline["jobs"]).values().flat_map(|job| steps(job)) {
            if let Some(source) = step["params"].get("SOURCE") {
                Source::from_value(source.clone()).unwrap_or_else(|error| panic!("{name}: {step}: {error}"));
                seen += 1;
            }
        }
    }
    assert!(seen >= 12, "only {seen} were tried");
}

#[test]
fn a_branch_makes_its_image_of_the_same_words_as_the_default_branch() {
    let source = |template: &str| {
        let pipeline = templates().remove(template).expect("there is the template");
        named(&pipeline["resources"])["image"]["source"].clone()
    };
    assert_eq!(source("feature-branch"), source("master"), "or a new branch would build what is there");
}

#[test]
fn a_pipeline_that_is_set_by_another_has_all_its_variables() {
    let own = |template: &str| -> BTreeSet<String> {
        names(&templates()[template]).into_iter().filter(|name| !name.starts_with(".:")).collect()
    };
    for (parent, job, set, beside) in
        [("master", "epoch", "master", None), ("branches", "pipelines", "feature-branch", Some("branch"))]
    {
        let pipeline = &templates()[parent];
        let step = steps(named(&pipeline["jobs"])[job]).into_iter().find(|step| step.get("set_pipeline").is_some());
        let step = step.expect("the job sets a pipeline").clone();
        let Value::Object(variables) = &step["vars"] else { panic!("{parent}: it has variables") };
        let given: BTreeSet<String> = variables.keys().cloned().chain(beside.map(str::to_owned)).collect();
        assert_eq!(given, own(set), "{parent}");
        for (name, value) in variables.iter().filter(|(name, _)| *name != "epoch") {
            assert_eq!(value, &json!(format!("(({name}))")), "{parent}");
        }
        assert_eq!(variables["epoch"], "((.:epoch))", "{parent}");
    }
}

#[test]
fn the_params_of_tasks_are_documented_and_pipelines_give_no_other() {
    let tasks: BTreeMap<&str, Value> = TASKS.into_iter().map(|(name, text)| (name, parsed(text))).collect();
    let params = |task: &Value| -> BTreeSet<String> {
        task["params"].as_object().expect("it has params").keys().cloned().collect()
    };
    for (name, task) in &tasks {
        let rows = table("## Tasks").filter(|row| [*name, "both"].contains(&row[0]));
        let documented: BTreeSet<String> = rows.flat_map(|row| quoted(row[1])).map(str::to_owned).collect();
        assert_eq!(params(task), documented, "{name}");
    }
    let mut run = BTreeSet::new();
    for (template, pipeline) in templates() {
        for step in named(&pipeline["jobs"]).values().flat_map(|job| steps(job)) {
            let Some(task) = step["file"].as_str().and_then(|file| file.strip_prefix(IN_THE_IMAGE)) else { continue };
            let Some(name) = task.strip_prefix("tasks/").and_then(|file| file.strip_suffix(".yml")) else { continue };
            assert_eq!(params(step), params(&tasks[name]), "{template}: {name}");
            run.insert(name.to_owned());
        }
    }
    assert_eq!(run, tasks.keys().map(|name| (*name).to_owned()).collect());
}

#[test]
fn the_shell_of_a_task_is_short_and_in_the_image() {
    for (name, text) in TASKS {
        let run = &parsed(text)["run"];
        assert_eq!(run["path"], "sh", "{name}");
        let shell = match items(&run["args"]).map(self::text).collect::<Vec<_>>()[..] {
            ["-euc", shell] => shell.to_owned(),
            [file] => {
                let below = file.strip_prefix("/usr/share/git-image/").expect("it is of the image");
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
                std::fs::read_to_string(path).expect("the script is there")
            }
            _ => panic!("{name}: {run}"),
        };
        assert!(shell.lines().count() < 30, "{name}");
    }
}

#[test]
fn the_branch_of_the_badges_is_the_only_one_that_the_default_leaves_out() {
    // As every dialect reads it: alternatives of literals, `[^x]`, `.*`, `.+`, and groups with `?`.
    let pattern = parsed(VARIABLES)["branch_regex"].clone();
    let rest = text(&pattern).strip_prefix("^(").and_then(|rest| rest.strip_suffix(")$")).expect("it is anchored");
    let alternatives: Vec<&str> = rest.split('|').collect();
    let word = "badges";
    let mut expected: Vec<String> = word
        .char_indices()
        .map(|(at, c)| match at {
            0 => format!("[^{c}].*"),
            _ => format!("{}([^{c}].*)?", &word[..at]),
        })
        .collect();
    expected.push(format!("{word}.+"));
    assert_eq!(alternatives, expected);
}

/// The templates by name, as Concourse reads them.
fn templates() -> BTreeMap<&'static str, Value> {
    TEMPLATES.into_iter().map(|(name, text)| (name, parsed(text))).collect()
}

#[track_caller]
fn parsed(text: &str) -> Value {
    yaml::parse(text).expect("it is YAML")
}

/// With the values of `variables.yml`, and with a text for what is known in a build alone.
fn filled(pipeline: &Value) -> Value {
    let mut variables = Variables::default();
    variables.add_all(parsed(VARIABLES)).expect("it is a block");
    variables.fill(pipeline.clone())
}

/// What is in a list, by its name.
fn named(list: &Value) -> BTreeMap<&str, &Value> {
    items(list).map(|item| (text(&item["name"]), item)).collect()
}

/// The items of a list; none if there is no list.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Every step of a job, also those within others and those of hooks.
fn steps(job: &Value) -> Vec<&Value> {
    const KINDS: [&str; 5] = ["get", "put", "task", "set_pipeline", "load_var"];
    match job {
        Value::Array(items) => items.iter().flat_map(steps).collect(),
        Value::Object(map) if KINDS.iter().any(|kind| map.contains_key(*kind)) => vec![job],
        Value::Object(map) => {
            let within = ["plan", "in_parallel", "do", "try", "on_success", "on_failure", "ensure"];
            within.iter().filter_map(|key| map.get(*key)).flat_map(steps).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Calls for every value, with the key that it, or the list that it is in, has.
fn each(value: &Value, call: &mut impl FnMut(&str, &Value)) {
    fn at(key: &str, value: &Value, call: &mut impl FnMut(&str, &Value)) {
        call(key, value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| at(key, item, call)),
            Value::Object(map) => map.iter().for_each(|(key, value)| at(key, value, call)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    at("", value, call);
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

/// The rows of the first table below a heading of the README, without its head.
fn table(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("{heading}\n")).expect("the README has the section");
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// What stands between backquotes.
fn quoted(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The value that a cell shows, as YAML reads it.
#[track_caller]
fn shown_value(name: &str, cell: &'static str) -> Value {
    match quoted(cell)[..] {
        // In words: the value would make the table too wide.
        _ if (name, cell) == ("branch_regex", "all but `badges`") => parsed(VARIABLES)[name].clone(),
        [value] => parsed(&value.replace("\\|", "|")),
        _ => panic!("{name}: {cell}"),
    }
}
