//! The README is true: its pipeline runs, and its tables name every key.

use std::collections::BTreeSet;

use git_image::request::shape::{self, Key, Kind};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Value, json};

use crate::project::{Project, check, get, only, put};
use crate::support::git::file;
use crate::support::registry::{Access, Account, Options, Registry};
use crate::support::{servers, temporary};

const README: &str = include_str!("../../README.md");

#[test]
fn the_pipeline_of_the_readme_runs() {
    let pipeline = pipeline();
    let image = find(&pipeline["resources"], "name", "image");
    let job = find(&pipeline["jobs"], "name", "image");
    let (repo, step) = (find(&job["plan"], "get", "repo"), find(&job["plan"], "put", "image"));
    assert_eq!(step["params"]["source"], repo["get"], "put takes the checkout that the job fetches");
    assert_eq!(step["inputs"], json!([repo["get"]]), "and no other artifact");
    let branch = find(&pipeline["resources"], "name", "repo");
    assert_eq!(image["source"]["git"], branch["source"], "both resources follow one branch");

    let account = Account { username: "ci", password: "a password" };
    let registry = Registry::start(Options { access: Access::Basic(account), ..Options::default() });
    let project = Project::empty("readme-pipeline");
    let dockerfile = format!("FROM {}\nCOPY ci/image/tool.sh /usr/local/bin/tool\n", servers().base_image());
    project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile), file("ci/image/tool.sh", "echo tool\n")]);

    // Only what names a machine or an account is another than in the README.
    let mut source = image["source"].clone();
    source["git"]["uri"] = json!(project.git.uri());
    source["registry"]["repository"] = json!(registry.repository("readme-pipeline"));
    source["registry"]["insecure"] = json!(true);
    assert_eq!(source["registry"]["username"], "((registry.username))");
    assert_eq!(source["registry"]["password"], "((registry.password))");
    source["registry"]["username"] = json!(account.username);
    source["registry"]["password"] = json!(account.password);
    source["engine"]["host"] = json!(servers().engine().tcp_host());

    let version = only(&check(&source, None));
    let ran = put(&source, &project.checkout("master", Some(1)), step["params"].clone());
    assert_eq!(ran.succeeds()["version"], version);

    // The get that follows the put, and the get of the job `test`.
    for (params, rootfs) in [(step["get_params"].clone(), false), (json!({}), true)] {
        let directory = temporary();
        assert_eq!(get(&source, &version, directory.path(), params.clone()).succeeds()["version"], version);
        assert_eq!(directory.path().join("rootfs/usr/local/bin/tool").is_file(), rootfs, "{params}");
    }
}

#[test]
fn the_tables_of_the_readme_have_every_key_that_can_be_used_and_no_other() {
    for (heading, keys) in
        [("## `source`", shape::SOURCE), ("## `put`", shape::PUT_PARAMS), ("## `get`", shape::GET_PARAMS)]
    {
        assert_eq!(documented(heading), usable(keys, ""), "{heading}");
    }
    assert_eq!(documented("## What a version is"), usable(shape::VERSION, ""));
}

/// The first YAML block.
fn pipeline() -> Value {
    let (_, rest) = README.split_once("```yaml\n").expect("the README has a pipeline");
    let (text, _) = rest.split_once("```").expect("the block ends");
    let documents = Yaml::load_from_str(text).expect("the pipeline is YAML");
    assert_eq!(documents.len(), 1, "one document");
    to_json(&documents[0])
}

/// What Concourse makes of YAML.
fn to_json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(map) => {
            map.iter().map(|(key, value)| (key.as_str().expect("keys are texts").to_owned(), to_json(value))).collect()
        }
        other => panic!("no pipeline of the README needs this: {other:?}"),
    }
}

/// The item of a list that has this value at this key.
#[track_caller]
fn find<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let items = list.as_array().expect("it is a list");
    items.iter().find(|item| item[key] == value).unwrap_or_else(|| panic!("no item has `{key}: {value}`: {list}"))
}

/// The keys in the first column of the first table below a heading. A row may name several.
fn documented(heading: &str) -> BTreeSet<String> {
    let (_, section) = README.split_once(&format!("{heading}\n")).expect("the README has the section");
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = table.skip(2).filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The keys that can be used, those of blocks with the block's name before them.
fn usable(keys: &'static [Key], path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (name, kind) in shape::usable(keys) {
        let path = format!("{path}{name}");
        match kind {
            Kind::Block(keys) => all.append(&mut usable(keys, &format!("{path}."))),
            // Its row says what is in it.
            Kind::Blocks(_)
            | Kind::Text
            | Kind::Secret
            | Kind::Flag
            | Kind::Count
            | Kind::Port
            | Kind::Texts
            | Kind::TextOrTexts
            | Kind::Short(..)
            | Kind::Shorts(..)
            | Kind::TextMap => {
                all.insert(path);
            }
        }
    }
    all
}
