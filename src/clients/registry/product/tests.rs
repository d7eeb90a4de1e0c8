//! The API of each product, by a server that answers as its documentation says, and by one that does not.

use super::simulated::{NAME, Simulated, SimulatedTask};
use super::*;
use crate::clients::registry::liar::{Liar, Page, reply};
use crate::names::Secret;
use crate::request::{ApiSource, Credentials};
use crate::say::Say;

/// The products that remove one tag.
fn untagging() -> impl Iterator<Item = Product> {
    ROWS.iter().filter(|row| matches!(row.way, Way::Untag { .. })).map(|row| row.product)
}

fn quiet() -> Say {
    Say::new(std::io::sink())
}

fn tag(text: &str) -> Tag {
    text.parse().expect("it is a tag")
}

fn alice() -> Option<Credentials> {
    Some(Credentials { username: "alice".to_owned(), password: Secret::new("secret") })
}

/// One that is recognised by what it answers to `GET /v2/`.
const TOLD: [(Product, &str, &str); 3] = [
    (
        Product::Harbor,
        "www-authenticate",
        r#"Bearer realm="https://h.example/service/token",service="harbor-registry""#,
    ),
    (Product::GitLab, "www-authenticate", r#"Bearer realm="https://g.example/jwt/auth",service="container_registry""#),
    (Product::Nexus, "server", "Nexus/3.68.1-02 (OSS)"),
];

#[test]
fn a_product_is_recognised_by_what_it_says_to_whom_has_no_credentials() {
    let headers = |name: &'static str, value: &str| {
        [(HeaderName::from_static(name), HeaderValue::from_str(value).expect("it is a header"))].into_iter().collect()
    };
    for (product, name, value) in TOLD {
        assert_eq!(recognise(&headers(name, value)), Some(product));
    }
    let nexus = r#"BASIC realm="Sonatype Nexus Repository Manager""#;
    assert_eq!(recognise(&headers("www-authenticate", nexus)), Some(Product::Nexus));
    for other in [
        r#"Bearer realm="https://auth.example/token",service="registry.example""#,
        r#"Basic realm="Registry Realm""#,
        // Somebody else's registry that has taken the name.
        r#"Bearer realm="https://auth.example/token",service="container_registry""#,
    ] {
        assert_eq!(recognise(&headers("www-authenticate", other)), None, "{other}");
    }
}

#[test]
fn each_table_in_the_docs_has_a_row_for_each_product() {
    let page = include_str!("../../../../docs/registries.md");
    assert_eq!(ROWS.iter().map(|row| row.product).collect::<Vec<_>>(), Product::ALL);
    for Row { product, recognised_by, call, way, needs, limits } in ROWS {
        let does = match way {
            Way::Untag { digest_too: true } => "removes the tag, if it is on the digest",
            Way::Untag { digest_too: false } => "removes the tag",
            Way::DeleteManifest => "deletes the manifest with all its tags",
        };
        let name = product.name();
        for line in
            [format!("| {name} | {recognised_by} | {does} | {needs} | {limits} |\n"), format!("| {name} | {call} |\n")]
        {
            assert!(page.contains(&line), "{line}");
        }
    }
}

#[test]
fn a_product_is_recognised_by_the_host_that_it_alone_has() {
    let rows = [
        ("docker.io", Some(Product::DockerHub)),
        ("ghcr.io", Some(Product::GitHub)),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", Some(Product::Ecr)),
        ("acme.azurecr.io", Some(Product::Acr)),
        ("europe-west3-docker.pkg.dev", Some(Product::Gar)),
        ("registry.example.com:5000", None),
        ("ghcr.io.example.com", None),
        ("acme.azurecr.io:444", None),
    ];
    for (host, product) in rows {
        assert_eq!(of_host(host), product, "{host}");
    }
}

#[test]
fn gitlab_is_where_its_registry_is_sent_for_tokens() {
    for (realm, place) in [
        ("https://gitlab.example/jwt/auth", "https://gitlab.example/"),
        ("https://example.com/gitlab/jwt/auth?x=y", "https://example.com/gitlab"),
    ] {
        let value = format!(r#"Bearer realm="{realm}",service="container_registry""#);
        let headers = [(reqwest::header::WWW_AUTHENTICATE, value.parse().expect("it is a header"))];
        assert_eq!(gitlab::place(&headers.into_iter().collect()).expect("it is told").as_str(), place);
    }
}

#[tokio::test]
async fn one_tag_goes_and_its_sibling_stays_and_a_tag_that_is_gone_is_told_so() {
    for product in untagging() {
        let simulated = Simulated::start(product).await;
        let digest = simulated.push(&serde_json::json!({}), &["gone", "stays"]);
        let registry = simulated.registry(&quiet());
        assert_eq!(registry.product().await.expect("it answers"), Some(product));
        assert_eq!(registry.untag(&tag("gone"), &digest).await.expect("it answers"), Deleted::Gone, "{product:?}");
        assert_eq!(simulated.tags(), ["stays"], "{product:?}");
        let again = registry.untag(&tag("gone"), &digest).await;
        assert_eq!(again.expect("it answers"), Deleted::WasNotThere, "{product:?}");
    }
}

#[tokio::test]
async fn a_tag_that_moved_stays_where_the_call_names_the_digest() {
    let names_the_digest = |row: &&Row| row.way == Way::Untag { digest_too: true };
    for product in ROWS.iter().filter(names_the_digest).map(|row| row.product) {
        let simulated = Simulated::start(product).await;
        let before = simulated.push(&serde_json::json!({"n": "1"}), &["moved"]);
        simulated.push(&serde_json::json!({"n": "2"}), &["moved"]);
        let gone = simulated.registry(&quiet()).untag(&tag("moved"), &before).await.expect("it answers");
        assert_eq!(gone, Deleted::WasNotThere, "{product:?}");
        assert_eq!(simulated.tags(), ["moved"], "{product:?}");
    }
}

#[tokio::test]
async fn a_429_is_waited_for_and_the_call_sent_again_while_the_tag_is_where_it_was() {
    for product in untagging() {
        let simulated = Simulated::start(product).await;
        let digest = simulated.push(&serde_json::json!({}), &["gone", "stays"]);
        let page = Page::default();
        let registry = simulated.registry(&Say::new(page.clone()));
        // What is asked only once, such as the time or a token, is asked before.
        registry.untag(&tag("never"), &digest).await.expect("it answers");
        simulated.answers([reply(429, &["retry-after: 0"], "")]);
        assert_eq!(registry.untag(&tag("gone"), &digest).await.expect("it answers"), Deleted::Gone, "{product:?}");
        assert!(page.text().contains("429"), "{product:?}: {}", page.text());
        assert_eq!(simulated.tags(), ["stays"], "{product:?}");
    }
}

/// What a call ends with when the API answers this; the name of the host is taken out.
async fn refusal(product: Product, answer: String) -> String {
    let simulated = Simulated::start(product).await;
    let digest = simulated.push(&serde_json::json!({}), &["gone"]);
    simulated.answers([answer]);
    let result = simulated.registry(&quiet()).untag(&tag("gone"), &digest).await;
    match result {
        Ok(deleted) => format!("{deleted:?}"),
        Err(error) => simulated.liar.report(error),
    }
}

#[tokio::test]
async fn a_refusal_says_what_was_wanted_what_was_answered_and_what_to_do() {
    let gone = format!("HOST/{NAME}:gone");
    let digest = {
        let simulated = Simulated::start(Product::Harbor).await;
        simulated.push(&serde_json::json!({}), &["gone"])
    };
    let harbor =
        format!("DELETE http://HOST/api/v2.0/projects/acme/repositories/app%252Fci/artifacts/{digest}/tags/gone");
    // GitLab looks for `acme/app/ci` as a project first.
    let gitlab = "GET http://HOST/api/v4/projects/acme%2Fapp%2Fci/registry/repositories";
    let nexus = "GET http://HOST/service/rest/v1/search";
    let rows = [
        (
            Product::Harbor,
            reply(401, &[], r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}"#),
            format!(
                "error: cannot remove tag {gone} by Harbor's API\n\
                 cause: the registry answered 401 UNAUTHORIZED: unauthorized ({harbor})\n\
                 hint: check `source.registry.username` and `source.registry.password`"
            ),
        ),
        (
            Product::Harbor,
            reply(403, &[], r#"{"errors":[{"code":"FORBIDDEN","message":"forbidden"}]}"#),
            format!(
                "error: cannot remove tag {gone} by Harbor's API\n\
                 cause: the registry answered 403 FORBIDDEN: forbidden ({harbor})\n\
                 hint: give the account in `source.registry.username` delete access to HOST/{NAME}"
            ),
        ),
        (
            Product::Harbor,
            reply(412, &[], r#"{"errors":[{"code":"PRECONDITION","message":"tag is immutable"}]}"#),
            format!(
                "error: cannot remove tag {gone} by Harbor's API\n\
                 cause: the registry answered 412 PRECONDITION: tag is immutable ({harbor})"
            ),
        ),
        (
            Product::GitLab,
            reply(401, &[], r#"{"message":"401 Unauthorized"}"#),
            format!(
                "error: cannot remove tag {gone} by GitLab's API: \
                 the registry answered 401 Unauthorized: 401 Unauthorized ({gitlab})\n\
                 hint: give a token with the scope `api` that may change the project, in `source.registry.api.token`"
            ),
        ),
        (
            Product::GitLab,
            reply(200, &[], r#"{"id":1}"#),
            format!(
                "error: cannot remove tag {gone} by GitLab's API: the answer of {} \
                 is not what its documentation says (line 1, column 0)",
                gitlab.trim_start_matches("GET ")
            ),
        ),
        (
            Product::Nexus,
            reply(403, &[], ""),
            format!(
                "error: cannot remove tag {gone} by Nexus's API\n\
                 cause: the registry answered 403 Forbidden ({nexus})\n\
                 hint: give the account in `source.registry.username` read access to HOST/{NAME}"
            ),
        ),
        (
            Product::Nexus,
            reply(
                200,
                &[],
                &serde_json::json!({"items": [
                    {"id": "1", "repository": "hosted", "name": NAME, "version": "gone"},
                    {"id": "2", "repository": "copies", "name": NAME, "version": "gone"},
                ], "continuationToken": null})
                .to_string(),
            ),
            format!(
                "error: cannot remove tag {gone} by Nexus's API: several repositories of Nexus have it: copies, hosted\n\
                 hint: say which one is meant in `source.registry.api.repository`, or with --nexus-repository of prune"
            ),
        ),
        (Product::Nexus, reply(405, &[], ""), String::new()),
    ];
    for (product, answer, expected) in rows {
        let told = refusal(product, answer.clone()).await;
        match expected.is_empty() {
            false => assert_eq!(told, expected, "{answer}"),
            true => assert!(told.contains("405"), "{told}"),
        }
    }
}

#[tokio::test]
async fn a_project_that_gitlab_does_not_show_is_an_error_that_names_the_token() {
    let simulated = Simulated::start(Product::GitLab).await;
    let digest = simulated.push(&serde_json::json!({}), &["gone"]);
    simulated.answers([404, 404].map(|status| reply(status, &[], r#"{"message":"404 Project Not Found"}"#)));
    let error = simulated.registry(&quiet()).untag(&tag("gone"), &digest).await.expect_err("there is no project");
    assert_eq!(
        simulated.liar.report(error),
        format!(
            "error: cannot remove tag HOST/{NAME}:gone by GitLab's API: GitLab shows no project that has the repository {NAME}\n\
             hint: give a token with the scope `api` that may change the project, in `source.registry.api.token`"
        )
    );
}

#[tokio::test]
async fn credentials_go_to_no_address_that_an_api_redirects_to() {
    let other = Liar::start(|_| reply(200, &[], "[]")).await;
    let location = format!("location: http://{}/elsewhere", other.host);
    let liar = Liar::start(move |heard| match heard.len() {
        1 => {
            let realm = format!("http://{}/jwt/auth", heard[0].header("host").expect("a request has a host"));
            let told = format!(r#"www-authenticate: Bearer realm="{realm}",service="container_registry""#);
            reply(401, &[&told], "")
        }
        _ => reply(302, &[&location], ""),
    })
    .await;
    let registry = liar.registry_of(NAME, alice(), ApiSource::default(), &quiet());
    registry.untag(&tag("gone"), &Digest::of(b"")).await.expect_err("it leads elsewhere");
    assert_eq!(other.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_registry_that_is_none_of_them_and_one_that_is_told_to_be_plain_has_no_api() {
    let plain = Liar::start(|_| reply(200, &[], "{}")).await;
    assert_eq!(plain.registry().product().await.expect("it answers"), None);
    assert_eq!(plain.lines(), ["GET /v2/"]);

    let simulated = Simulated::start(Product::Harbor).await;
    let told = ApiSource { product: ProductSetting::Plain, ..ApiSource::default() };
    let registry = simulated.registry_told(told, &quiet());
    assert_eq!(registry.product().await.expect("it answers"), None);
    assert_eq!(simulated.liar.lines(), Vec::<String>::new());
}

const UNUSED: &str = "repository.docker.gc";
const COMPACT: &str = "blobstore.compact";

/// A task of Nexus: its type, its name, and what it ends with.
type Told = (&'static str, &'static str, &'static str);

/// A Nexus with these tasks.
async fn nexus_with(tasks: &[Told]) -> Simulated {
    let simulated = Simulated::start(Product::Nexus).await;
    let tasks = tasks.iter().map(|&(kind, name, result)| SimulatedTask { kind, name, result, running: 0, ran: 0 });
    simulated.state.lock().expect("no holder panics").tasks.extend(tasks);
    simulated
}

#[tokio::test]
async fn the_tasks_of_nexus_run_one_after_the_other_and_are_waited_for() {
    // The order is that of the types; and the second one is at work already, which does not count.
    let simulated = nexus_with(&[(COMPACT, "compact default", "OK"), (UNUSED, "unused images", "OK")]).await;
    simulated.state.lock().expect("no holder panics").tasks[0].running = 3;
    let page = Page::default();
    let say = Say::new(page.clone());
    let registry = simulated.registry(&say);
    registry.nexus_tasks().await.expect("there are both").run(&say).await.expect("both end well");
    assert_eq!(
        page.text(),
        "Nexus: the task \"unused images\" is started\n\
         Nexus: the task \"unused images\" is done\n\
         Nexus: the task \"compact default\" is started\n\
         Nexus: the task \"compact default\" is done\n"
    );
    let lines = simulated.liar.lines();
    let place = |line: &str| lines.iter().position(|one| one == line).expect("it was asked");
    let looks = lines.iter().filter(|line| **line == format!("GET /service/rest/v1/tasks/id-{UNUSED}"));
    assert_eq!(looks.count(), 4, "once before, twice while it runs, once afterwards");
    let last_look = lines.iter().rposition(|line| *line == format!("GET /service/rest/v1/tasks/id-{UNUSED}"));
    assert!(last_look.expect("it was looked at") < place(&format!("POST /service/rest/v1/tasks/id-{COMPACT}/run")));
}

#[tokio::test]
async fn a_task_of_nexus_that_is_missing_or_fails_is_an_error_that_names_it() {
    let rows: [(&[Told], &str); 4] = [
        (
            &[(COMPACT, "compact", "OK")],
            "error: cannot run the tasks of the Nexus HOST: it shows no task of the type \
             \"Docker - Delete unused manifests and images\" (repository.docker.gc)\n\
             hint: create one in Nexus under Settings, System, Tasks (the frequency Manual will do), and give the account \
             the privilege nx-tasks-all",
        ),
        (
            &[(UNUSED, "unused", "OK")],
            "error: cannot run the tasks of the Nexus HOST: it shows no task of the type \
             \"Admin - Compact blob store\" (blobstore.compact)\n\
             hint: create one in Nexus under Settings, System, Tasks (the frequency Manual will do), and give the account \
             the privilege nx-tasks-all",
        ),
        (
            &[(UNUSED, "unused", "FAILED"), (COMPACT, "compact", "OK")],
            "error: cannot run the tasks of the Nexus HOST: the task \"unused\" ended with FAILED\n\
             hint: the log of the task in Nexus says why; the tags are removed",
        ),
        (
            &[(UNUSED, "unused", "DISABLED"), (COMPACT, "compact", "OK")],
            "error: cannot run the tasks of the Nexus HOST: the task \"unused\" is disabled\n\
             hint: enable it in Nexus",
        ),
    ];
    for (tasks, message) in rows {
        let simulated = nexus_with(tasks).await;
        let registry = simulated.registry(&quiet());
        let result = match registry.nexus_tasks().await {
            Ok(tasks) => tasks.run(&quiet()).await,
            Err(error) => Err(error),
        };
        assert_eq!(simulated.liar.report(result.expect_err("it cannot be done")), message);
        let ran: u32 = simulated.state.lock().expect("no holder panics").tasks[1..].iter().map(|task| task.ran).sum();
        assert_eq!(ran, 0, "what comes after is not run: {message}");
    }
}

#[tokio::test]
async fn who_may_not_see_the_tasks_of_nexus_is_told_the_privilege() {
    let simulated = nexus_with(&[]).await;
    simulated.answers([reply(403, &[], "")]);
    let error = simulated.registry(&quiet()).nexus_tasks().await.err().expect("it is refused");
    assert_eq!(
        simulated.liar.report(error),
        "error: cannot run the tasks of the Nexus HOST: the registry answered 403 Forbidden \
         (GET http://HOST/service/rest/v1/tasks)\n\
         hint: give the account the privilege nx-tasks-all, or nx-tasks-read and nx-tasks-run"
    );
}

#[tokio::test]
async fn the_tasks_of_nexus_are_not_looked_for_where_there_is_none() {
    let simulated = Simulated::start(Product::Harbor).await;
    let error = simulated.registry(&quiet()).nexus_tasks().await.err().expect("it is a Harbor");
    assert_eq!(
        simulated.liar.report(error),
        "error: cannot run the tasks of the Nexus HOST: it is not recognised as one\n\
         hint: say that it is one, and where its API is, in `source.registry.api`, or with --product and --api-url of prune"
    );
}

#[tokio::test]
async fn github_deletes_a_manifest_by_its_version_and_says_when_there_is_none() {
    let simulated = Simulated::start(Product::GitHub).await;
    let gone = simulated.push(&serde_json::json!({"n": "1"}), &["a", "b"]);
    simulated.push(&serde_json::json!({"n": "2"}), &["stays"]);
    let registry = simulated.registry(&quiet());
    assert_eq!(registry.untag(&tag("a"), &gone).await.expect("it answers"), Deleted::NotAllowed);
    assert_eq!(registry.delete(&gone).await.expect("it answers"), Deleted::Gone);
    assert_eq!(simulated.tags(), ["stays"]);
    assert_eq!(registry.delete(&gone).await.expect("it answers"), Deleted::WasNotThere);
    assert!(!simulated.liar.lines().iter().any(|line| line.starts_with("DELETE /v2/")), "OCI's API is not asked");
}

#[tokio::test]
async fn a_token_of_docker_hub_that_is_refused_is_fetched_anew_once() {
    let simulated = Simulated::start(Product::DockerHub).await;
    let digest = simulated.push(&serde_json::json!({}), &["gone"]);
    simulated.answers([reply(200, &[], r#"{"access_token":"old"}"#), reply(401, &[], "")]);
    let registry = simulated.registry(&quiet());
    assert_eq!(registry.untag(&tag("gone"), &digest).await.expect("it answers"), Deleted::Gone);
    let calls: Vec<String> =
        simulated.liar.lines().into_iter().filter(|line| !line.contains(&format!("/v2/{NAME}/"))).collect();
    let (token, call) = ("POST /v2/auth/token", "DELETE /v2/repositories/acme/app/ci/tags/gone/");
    assert_eq!(calls, [token, call, token, call]);

    simulated.push(&serde_json::json!({}), &["gone"]);
    let (granted, refused) = (reply(200, &[], r#"{"access_token":"new"}"#), reply(401, &[], ""));
    simulated.answers([refused.clone(), granted, refused]);
    let error = registry.untag(&tag("gone"), &digest).await.expect_err("both are refused");
    assert_eq!(
        simulated.liar.report(error),
        format!(
            "error: cannot remove tag HOST/{NAME}:gone by Docker Hub's API\n\
             cause: the registry answered 401 Unauthorized (DELETE http://HOST/v2/repositories/acme/app/ci/tags/gone/)\n\
             hint: check `source.registry.username` and `source.registry.password`"
        )
    );
}

#[tokio::test]
async fn what_ecr_throttles_is_sent_again_and_what_it_refuses_is_told() {
    let simulated = Simulated::start(Product::Ecr).await;
    let digest = simulated.push(&serde_json::json!({}), &["gone"]);
    let date = reply(404, &["date: Sat, 21 Nov 2026 10:00:00 GMT"], "");
    let throttled = reply(400, &[], r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#);
    simulated.answers([date, throttled]);
    let registry = simulated.registry(&quiet());
    assert_eq!(registry.untag(&tag("gone"), &digest).await.expect("it answers"), Deleted::Gone);

    simulated.push(&serde_json::json!({}), &["gone"]);
    let failure = r#"{"failures":[{"failureCode":"ImageReferencedByManifestList","failureReason":"by sha256:1"}]}"#;
    let rows = [
        (
            reply(200, &[], failure),
            format!(
                "error: cannot remove tag HOST/{NAME}:gone by ECR's API: ImageReferencedByManifestList: by sha256:1\n\
                 hint: the documentation of BatchDeleteImage says what that means"
            ),
        ),
        (
            reply(400, &[], r#"{"__type":"AccessDeniedException","message":"you may not"}"#),
            format!(
                "error: cannot remove tag HOST/{NAME}:gone by ECR's API: \
                 the registry answered 400 Bad Request: you may not (POST http://HOST/)\n\
                 hint: check the access key in `source.registry.api`; it needs the right `ecr:BatchDeleteImage`"
            ),
        ),
    ];
    for (answer, message) in rows {
        simulated.answers([answer]);
        let error = registry.untag(&tag("gone"), &digest).await.expect_err("it is refused");
        assert_eq!(simulated.liar.report(error), message);
    }
}

#[tokio::test]
async fn what_a_product_needs_and_does_not_have_is_named() {
    let gone = format!("HOST/{NAME}:gone");
    let rows = [
        (
            Product::Ecr,
            format!(
                "error: cannot remove tag {gone} by ECR's API: it takes requests only that are signed with an access key\n\
                 hint: give `source.registry.api.aws_access_key_id` and `source.registry.api.aws_secret_access_key`"
            ),
        ),
        (
            Product::Gar,
            format!(
                "error: cannot remove tag {gone} by Artifact Registry's API: it takes an access token only\n\
                 hint: give one in `source.registry.api.token`, or to `oauth2accesstoken`"
            ),
        ),
        (
            Product::DockerHub,
            format!(
                "error: cannot remove tag {gone} by Docker Hub's API: nobody is named who asks\n\
                 hint: give `source.registry.username` and `source.registry.password`"
            ),
        ),
    ];
    for (product, message) in rows {
        let simulated = Simulated::start(product).await;
        let digest = simulated.push(&serde_json::json!({}), &["gone"]);
        let url = format!("http://{}/", simulated.liar.host).parse().ok();
        let told = ApiSource { product: ProductSetting::Is(product), url, ..ApiSource::default() };
        let registry = simulated.liar.registry_of(NAME, None, told, &quiet());
        let error = registry.untag(&tag("gone"), &digest).await.expect_err("something is missing");
        assert_eq!(simulated.liar.report(error), message);
    }
}

#[tokio::test]
async fn when_images_were_pushed_is_read_from_all_pages_of_those_that_tell_it() {
    for product in Product::ALL {
        let simulated = Simulated::start(product).await;
        let mut images: Vec<Digest> = ["a", "b", "c"]
            .map(|name| simulated.push(&serde_json::json!({"n": name}), &[name, &format!("{name}-too")]))
            .into();
        images.sort_by_key(Digest::to_string);
        let told = simulated.registry(&quiet()).pushed().await.expect("it answers");
        let told: Vec<Option<String>> =
            images.iter().map(|image| told.get(image).map(|time| time.strftime("%-d").to_string())).collect();
        let expected = match product {
            Product::Harbor
            | Product::Nexus
            | Product::DockerHub
            | Product::GitHub
            | Product::Ecr
            | Product::Acr
            | Product::Gar => ["10", "11", "12"].map(Some),
            Product::GitLab => [None; 3],
        };
        assert_eq!(told, expected.map(|day| day.map(str::to_owned)), "{product:?}");
    }
}

#[tokio::test]
async fn when_tags_and_images_were_pulled_is_read_from_those_that_tell_it() {
    for product in Product::ALL {
        let simulated = Simulated::start(product).await;
        let images = ["a", "b", "c"]
            .map(|name| simulated.push(&serde_json::json!({"n": name}), &[name, &format!("{name}-too")]));
        simulated.pull("a");
        simulated.pull(&images[1].to_string());
        // What was pulled just now is not told yet.
        simulated.registry(&quiet()).pulled().await.expect("it answers");
        let told = simulated.registry(&quiet()).pulled().await.expect("it answers");
        let time = |second: i64| Timestamp::from_second(1_796_119_200 + second).expect("a time of this century");
        let tags = |tags: &[(&str, i64)]| tags.iter().map(|(tag, at)| ((*tag).to_owned(), time(*at))).collect();
        let by_image = [(images[0], time(1)), (images[1], time(2))].into();
        let expected = match product {
            Product::Harbor => Some(PullTimes { tags: tags(&[("a", 1)]), images: by_image }),
            Product::DockerHub => {
                let tags = tags(&[("a", 1), ("a-too", 1), ("b", 2), ("b-too", 2)]);
                Some(PullTimes { tags, images: by_image })
            }
            Product::GitLab | Product::Nexus | Product::GitHub | Product::Ecr | Product::Acr | Product::Gar => None,
        };
        assert_eq!(told, expected, "{product:?}");
    }
}

#[tokio::test]
async fn who_asks_by_a_token_is_told_what_the_token_needs() {
    let rows = [
        (
            Product::GitHub,
            "error: cannot delete HOST/acme/app/ci@DIGEST by GitHub's API: the registry answered 403 Forbidden: no \
             (GET http://HOST/orgs/acme/packages/container/app%2Fci/versions)\n\
             hint: give a token (classic) with the scopes `write:packages` and `delete:packages` in \
             `source.registry.api.token`",
        ),
        (
            Product::Gar,
            "error: cannot remove tag HOST/acme/app/ci:gone by Artifact Registry's API: the registry answered \
             403 Forbidden: no (DELETE http://HOST/v1/projects/acme/locations/HOST/repositories/app/packages/ci/tags/gone)\n\
             hint: the access token needs the permission `artifactregistry.tags.delete`, and lives for an hour only",
        ),
    ];
    for (product, message) in rows {
        let simulated = Simulated::start(product).await;
        let digest = simulated.push(&serde_json::json!({}), &["gone"]);
        simulated.answers([reply(403, &[], r#"{"message":"no"}"#)]);
        let registry = simulated.registry(&quiet());
        let result = match product {
            Product::GitHub => registry.delete(&digest).await,
            _ => registry.untag(&tag("gone"), &digest).await,
        };
        let told = simulated.liar.report(result.expect_err("it is refused"));
        assert_eq!(told.replace(&digest.to_string(), "DIGEST"), message);
    }
}
