//! The tasks of Nexus that free what removed tags have left.
//!
//! Fact: <https://help.sonatype.com/en/tasks-api.html>; the types of tasks and their names are those of
//! <https://help.sonatype.com/en/tasks.html>. A task that is hidden from the account is answered as if there were none; one
//! that is disabled is refused with 405.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::Nexus;
use crate::clients::registry::product::Api;
use crate::clients::registry::{ANSWER_LIMIT, Registry, RegistryError};
use crate::say::Say;

/// The types of the tasks, in the order in which they are run, with what Nexus calls them.
const TYPES: [(&str, &str); 2] = [
    ("repository.docker.gc", "Docker - Delete unused manifests and images"),
    ("blobstore.compact", "Admin - Compact blob store"),
];

const PRIVILEGE: &str = "give the account the privilege nx-tasks-all, or nx-tasks-read and nx-tasks-run";

/// The longest that one task may take.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// How often it is said that a task still runs.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// The longest pause between two looks at a task is so many first pauses of a retry: 10 seconds.
const LONGEST_PAUSE: u32 = 20;
/// The most pages of tasks that are read.
const PAGES: usize = 100;

/// Tasks that were found.
pub struct NexusTasks<'r> {
    nexus: &'r Nexus,
    what: String,
    tasks: Vec<Task>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    id: String,
    name: String,
    current_state: String,
    last_run_result: Option<String>,
    last_run: Option<String>,
}

impl Task {
    fn is_running(&self) -> bool {
        // RUNNING_STARTING, RUNNING_BLOCKED and others are running too; all that rest are WAITING.
        self.current_state.starts_with("RUNNING")
    }
}

impl Registry {
    /// Finds the tasks that free what removed tags have left. Nothing is started.
    ///
    /// # Errors
    ///
    /// The registry is no Nexus, it shows no such task, or it cannot be asked.
    pub async fn nexus_tasks(&self) -> Result<NexusTasks<'_>, RegistryError> {
        let what = format!("run the tasks of the Nexus {}", self.repository.registry());
        let Some(Api::Nexus(nexus)) = self.api().await? else {
            return Err(RegistryError::Product {
                what,
                why: "it is not recognised as one".to_owned(),
                hint: "say that it is one, and where its API is, in `source.registry.api`, or with --product and --api-url of prune",
            });
        };
        let mut tasks = Vec::new();
        for (kind, name) in TYPES {
            let found = nexus.tasks(&what, kind).await?;
            if found.is_empty() {
                return Err(RegistryError::Product {
                    what,
                    why: format!("it shows no task of the type \"{name}\" ({kind})"),
                    hint: "create one in Nexus under Settings, System, Tasks (the frequency Manual will do), and give the account the privilege nx-tasks-all",
                });
            }
            tasks.extend(found);
        }
        Ok(NexusTasks { nexus, what, tasks })
    }
}

impl NexusTasks<'_> {
    /// Runs them, one after the other, and waits for each.
    ///
    /// # Errors
    ///
    /// One cannot be started, fails, or takes longer than 12 hours.
    pub async fn run(&self, say: &Say) -> Result<(), RegistryError> {
        for task in &self.tasks {
            self.run_one(task, say).await?;
        }
        Ok(())
    }

    async fn run_one(&self, task: &Task, say: &Say) -> Result<(), RegistryError> {
        let Task { id, name, .. } = task;
        // A run that began before the tags went does not count.
        let before = self.rested(id, name, say, |task| !task.is_running()).await?;
        let url = self.nexus.client.url(&["service", "rest", "v1", "tasks", id, "run"]);
        let ask = self.nexus.client.ask(&self.what, Method::POST, url, self.nexus.client.basic())?;
        let answer = self.nexus.client.http.ask_once(&ask, ANSWER_LIMIT).await?;
        match answer.status {
            status if status.is_success() => {}
            StatusCode::METHOD_NOT_ALLOWED => {
                return Err(self.failed(format!("the task \"{name}\" is disabled"), "enable it in Nexus"));
            }
            StatusCode::NOT_FOUND => {
                return Err(self.failed(format!("the task \"{name}\" may not be started"), PRIVILEGE));
            }
            _ => return Err(self.nexus.client.http.refused(&ask, &answer)),
        }
        say.line(format_args!("Nexus: the task \"{name}\" is started"));
        let is_done = |task: &Task| !task.is_running() && task.last_run != before.last_run;
        let after = self.rested(id, name, say, is_done).await?;
        match after.last_run_result.as_deref() {
            Some("OK") => {
                say.line(format_args!("Nexus: the task \"{name}\" is done"));
                Ok(())
            }
            other => {
                let why = format!("the task \"{name}\" ended with {}", other.unwrap_or("no result"));
                Err(self.failed(why, "the log of the task in Nexus says why; the tags are removed"))
            }
        }
    }

    /// Waits until a task is as it should be.
    async fn rested(
        &self,
        id: &str,
        name: &str,
        say: &Say,
        is_good: impl Fn(&Task) -> bool,
    ) -> Result<Task, RegistryError> {
        let client = &self.nexus.client;
        let first = client.http.first_pause();
        let (began, mut pause, mut said) = (Instant::now(), first, 0);
        loop {
            let url = client.url(&["service", "rest", "v1", "tasks", id]);
            let task: Task = client.read(&client.ask(&self.what, Method::GET, url, client.basic())?).await?.0;
            if is_good(&task) {
                return Ok(task);
            }
            let waited = began.elapsed();
            if waited > LONGEST {
                let why = format!("the task \"{name}\" takes longer than {} hours", LONGEST.as_secs() / 3600);
                return Err(self.failed(why, "the log of the task in Nexus says what it does"));
            }
            let minutes = waited.as_secs() / SAID_EVERY.as_secs();
            if minutes > said {
                said = minutes;
                say.line(format_args!("Nexus: the task \"{name}\" has run for {minutes} min"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(first * LONGEST_PAUSE);
        }
    }

    fn failed(&self, why: String, hint: &'static str) -> RegistryError {
        RegistryError::Product { what: self.what.clone(), why, hint }
    }
}

impl Nexus {
    /// The tasks of a type.
    async fn tasks(&self, what: &str, kind: &str) -> Result<Vec<Task>, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            items: Vec<Task>,
            continuation_token: Option<String>,
        }
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut url = self.client.url(&["service", "rest", "v1", "tasks"]);
            url.query_pairs_mut()
                .append_pair("type", kind)
                .extend_pairs(token.iter().map(|token| ("continuationToken", token)));
            let ask = self.client.ask(what, Method::GET, url, self.client.basic())?;
            let (page, _): (Page, _) = match self.client.read(&ask).await {
                Err(RegistryError::Denied { what, answer, .. }) => {
                    return Err(RegistryError::Product { what, why: answer.to_string(), hint: PRIVILEGE });
                }
                result => result?,
            };
            found.extend(page.items);
            token = page.continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }
}
