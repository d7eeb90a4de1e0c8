//! Values of a pipeline's `((variables))`, as fly takes them.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value;

use super::CliError;
use crate::pipeline::Variables;
use crate::yaml;

/// Values of a pipeline's `((variables))`, as fly takes them.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Variables")]
pub struct VariableArgs {
    /// A YAML file with values of ((variables)), as for fly; may be given several times
    #[arg(short = 'l', long, value_name = "FILE")]
    pub load_vars_from: Vec<PathBuf>,

    /// The value of a ((variable)), a text, as for fly. Not for secrets: others on the machine see it
    #[arg(short = 'v', long, value_name = "NAME=VALUE")]
    pub var: Vec<Setting>,

    /// The value of a ((variable)), as YAML, as for fly
    #[arg(short = 'y', long, value_name = "NAME=YAML")]
    pub yaml_var: Vec<Setting>,
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            Some(_) | None => Err("write it as NAME=VALUE"),
        }
    }
}

impl VariableArgs {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        let Self { load_vars_from, var, yaml_var } = self;
        load_vars_from.is_empty() && var.is_empty() && yaml_var.is_empty()
    }

    /// Reads the values. Those of options win over those of files, and later files over earlier ones.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a value is no YAML.
    pub fn read(&self) -> Result<Variables, CliError> {
        let mut variables = Variables::default();
        for path in &self.load_vars_from {
            let what = path.display().to_string();
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| CliError::File { what: "read", path: path.clone(), source })?;
            let values = yaml::parse(&text).map_err(|source| CliError::NotYaml { what: what.clone(), source })?;
            variables.add_all(values).map_err(|_| CliError::NoVariables { what })?;
        }
        for Setting { name, value } in &self.yaml_var {
            let parsed = yaml::parse(value);
            let what = || format!("the value of --yaml-var {name}");
            variables.add(name, parsed.map_err(|source| CliError::NotYaml { what: what(), source })?);
        }
        for Setting { name, value } in &self.var {
            variables.add(name, Value::String(value.clone()));
        }
        Ok(variables)
    }
}
