//! What a git server may do in the middle of a run: die, say nothing, half of it, or too little.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Saved, after_a_branch, apply, save};
use crate::project::Project;
use crate::support::proxy::{Proxy, Then};
use crate::support::servers;

/// An answer of protocol version 2 with these packets, whole as far as HTTP can tell.
macro_rules! answer {
    ($packets:literal) => {
        Then::Answer(
            concat!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nConnection: close\r\n\r\n",
                $packets
            )
            .as_bytes(),
        )
    };
}

/// The question of git that is answered so, and all that follow it.
fn from_question(number: usize, then: Then) -> impl FnMut(&str) -> Then + Send + 'static {
    let mut asked = 0;
    move |request| {
        // What a server can do is asked with GET.
        asked += usize::from(request.starts_with("POST "));
        if asked >= number && request.starts_with("POST ") { then } else { Then::Pass }
    }
}

/// The source with git behind a proxy. git itself waits a minute before it calls a server too slow; a test does not.
fn behind(project: &Project, proxy: &Proxy) -> Value {
    project.source_with(&[
        ("/git/uri", json!(format!("http://{}/{}.git", proxy.host(), project.name))),
        ("/git/git_config", json!([{"name": "http.lowSpeedTime", "value": "2"}])),
    ])
}

/// The tags with what they point to, without the journal, which each run writes.
fn pointing(project: &Project) -> Vec<(String, Option<String>)> {
    let tags = project.tags().into_iter().filter(|tag| !tag.starts_with("_reaper"));
    tags.map(|tag| (project.digest(&tag), tag)).map(|(digest, tag)| (tag, digest)).collect()
}

#[test]
fn a_git_server_that_fails_at_any_question_loses_no_tag_and_the_next_run_goes_on() {
    let (project, dead) = after_a_branch("reap-broken-git");
    let saved: Vec<Saved> = dead.iter().map(|tag| save(&project, tag)).collect();
    let kept: Vec<(String, Option<String>)> =
        pointing(&project).into_iter().filter(|(tag, _)| !dead.contains(tag)).collect();
    for (first, (name, then)) in [
        ("dies", Then::LoseAnswer),
        ("answers half of HTTP", Then::Cut(40)),
        ("answers half of the refs", answer!("003daaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa refs/heads/other\n")),
        ("answers no refs", answer!("0000")),
        ("answers an error", Then::Answer(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
    ]
    .into_iter()
    .enumerate()
    {
        // Every second of them: git is asked in the same way each time.
        for question in (1 + first % 2..).step_by(2) {
            for image in &saved {
                image.put(project.name, &image.tag);
            }
            let proxy = Proxy::start(&servers().git().host(), from_question(question, then));
            let ran = apply(&behind(&project, &proxy));
            let case = format!("a server that {name} at question {question}:\n{}{}", ran.stdout, ran.stderr);
            let now = pointing(&project);
            assert!(kept.iter().all(|tag| now.contains(tag)), "{case}");
            if ran.code == Some(0) {
                assert_eq!(now, kept, "{case}");
                assert!(question > 5, "it was asked before, between and after: {case}");
                break;
            }
            assert_eq!(ran.code, Some(1), "{case}");
            assert!(ran.stderr.contains("\nerror: ") && ran.stderr.contains("\ncause: "), "{case}");
            assert!(ran.elapsed < Duration::from_secs(30), "{:?}: {case}", ran.elapsed);
            let again = apply(&project.source);
            assert_eq!(again.code, Some(0), "{}\nafter {case}", again.stderr);
            assert_eq!(pointing(&project), kept, "after {case}");
        }
    }
}

#[test]
fn what_git_did_wrong_is_said_with_what_was_done_by_then() {
    let (project, dead) = after_a_branch("reap-broken-words");
    let saved: Vec<Saved> = dead.iter().map(|tag| save(&project, tag)).collect();
    let repository = servers().registry().repository(project.name);
    let mut said = Vec::new();
    for then in [
        Then::LoseAnswer,
        Then::Hold,
        answer!("0000"),
        Then::Answer(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    ] {
        for image in &saved {
            image.put(project.name, &image.tag);
        }
        let proxy = Proxy::start(&servers().git().host(), from_question(5, then));
        let ran = apply(&behind(&project, &proxy));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let (_, error) = ran.stderr.split_once("\nerror: ").expect("it ends with an error");
        said.push(error.replace(&proxy.host(), "HOST").replace(&repository, "REPOSITORY"));
    }
    let broke_off = |cause: &str| {
        format!(
            "stopped half way in REPOSITORY; tags removed so far: 3\n\
             cause: the git server of 127.0.0.1/reap-broken-words broke off while it answered `git ls-remote`\n\
             cause: error: RPC failed; {cause}\n\
             fatal: expected flush after ref listing\n\
             hint: try again; if it stays, the git server's log tells why\n"
        )
    };
    assert_eq!(
        said,
        [
            broke_off("curl 52 Empty reply from server"),
            broke_off("curl 28 Operation too slow. Less than 1 bytes/sec transferred the last 2 seconds"),
            "stopped half way in REPOSITORY; tags removed so far: 3\n\
             cause: refused to reap REPOSITORY\n\
             cause: git repository 127.0.0.1/reap-broken-words has no branches, so every image would look dead\n\
             hint: see that `source.git.uri` names the right repository\n"
                .to_owned(),
            broke_off("HTTP 500 curl 22 The requested URL returned error: 500"),
        ]
    );
}
