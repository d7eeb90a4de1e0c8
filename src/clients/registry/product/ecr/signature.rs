//! Signatures of requests to AWS, version 4.
//!
//! Our own and not `aws-sigv4`: that brings aws-credential-types, aws-smithy-runtime-api and a dozen more for what is one
//! page of documentation; and `reqsign` brings an HTTP client. `ring`, which our TLS uses already, has the HMAC.
//!
//! Fact: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>. Pinned by the
//! examples of AWS's test suite.

use std::fmt::Write as _;

use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::names::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What of a request is signed. It has no query.
pub(super) struct Signed<'r> {
    pub(super) method: &'r str,
    pub(super) path: &'r str,
    /// Every header that is signed, with names in lower case, sorted by them.
    pub(super) headers: &'r [(&'r str, &'r str)],
    pub(super) body: &'r [u8],
}

/// The value of the header `Authorization`. `date` is that of `x-amz-date`: `20150830T123600Z`.
pub(super) fn sign(request: &Signed<'_>, id: &str, secret: &Secret, region: &str, service: &str, date: &str) -> String {
    let day = date.split('T').next().unwrap_or_default();
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");

    let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
    for (name, value) in request.headers {
        // Writing to a text does not fail.
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", hex::encode(Sha256::digest(request.body)));
    let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));

    let mut key = format!("AWS4{}", secret.open()).into_bytes();
    for part in [day, region, service, "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex::encode(hmac(&key, &to_sign));
    format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get-vanilla`, `post-vanilla` and `post-x-www-form-urlencoded` of the test suite of AWS.
    #[test]
    fn the_examples_of_aws_have_the_signatures_that_it_says() {
        let date = "20150830T123600Z";
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", date)];
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("x-amz-date", date),
        ];
        let rows = [
            ("GET", &plain[..], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", &plain[..], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            ("POST", &form[..], "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ];
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        for (method, headers, body, signature) in rows {
            let request = Signed { method, path: "/", headers, body: body.as_bytes() };
            let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
            assert_eq!(
                sign(&request, "AKIDEXAMPLE", &secret, "us-east-1", "service", date),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders={}, Signature={signature}",
                    names.join(";")
                )
            );
        }
    }
}
