//! A plan as one HTML page: what goes and how much space that brings, what stays, and why. It needs no network and no
//! script.

mod space;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use self::space::{Fate, Owner, Part, Parts, Space};
use super::text::{count, short};
use super::{Judgement, Plan, Verdict};
use crate::names::Digest;
use crate::say::size;

/// The blobs of each image, with their sizes in bytes. An image that could not be weighed is left out.
pub type Blobs = BTreeMap<Digest, Vec<(Digest, u64)>>;

/// As many tags that go are shown at once. Where there are more, each branch is opened by the reader.
const SHOWN_AT_ONCE: usize = 30;

const STYLE: &str = include_str!("page/style.css");

impl Plan {
    /// The page.
    pub fn page(&self, blobs: &Blobs) -> String {
        let mut html = String::new();
        // Writing to a text cannot fail.
        let _ = self.write_page(&mut html, &Parts::new(self, blobs), blobs);
        html
    }

    fn write_page(&self, html: &mut String, parts: &Parts<'_>, blobs: &Blobs) -> fmt::Result {
        let registry = Escaped(&self.registry);
        // Nothing is loaded and nothing runs, whatever a text from outside may hold.
        writeln!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{registry}: what goes</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <h1>{registry}</h1>"
        )?;
        writeln!(
            html,
            "<p class=\"quiet\">What <code>git-image reap</code> would do at {:.0}, by the branches of <code>{}</code>.</p>",
            self.now,
            Escaped(self.repository.as_str())
        )?;
        self.write_answer(html, parts)?;
        if let Err(refusal) = self.within_limits() {
            let (why, hint) = (refusal.to_string(), refusal.hint().unwrap_or_default());
            writeln!(html, "<p class=\"refused\">--apply would refuse: {}<br>{}</p>", Escaped(&why), Escaped(&hint))?;
        }
        self.write_summary(html, parts.all)?;

        let dead = self.count(Verdict::Remove) + self.count(Verdict::Grace);
        let rows = Rows { plan: self, blobs, longest: longest_bar(parts), open: dead <= SHOWN_AT_ONCE };
        if parts.of.values().any(|part| rows.longest < part.space.total()) {
            html.push_str("<p class=\"quiet\">A bar with a gap is longer than it is drawn.</p>\n");
        }
        for (fate, class, title) in [
            (Fate::Goes, "dead", "What goes"),
            (Fate::Later, "dead", "What goes later"),
            (Fate::Stays, "alive", "What stays"),
        ] {
            let mut owners: Vec<_> = parts.of.iter().filter(|(_, part)| part.first() == Some(fate)).collect();
            if owners.is_empty() {
                continue;
            }
            owners.sort_by_key(|(_, part)| Reverse((part.space.goes, part.space.later, part.space.total())));
            writeln!(html, "<section class=\"{class}\">\n<h2>{title}</h2>")?;
            for (owner, part) in owners {
                rows.write(html, owner, part, fate)?;
            }
            html.push_str("</section>\n");
        }
        self.write_untagged(html)?;
        self.write_verdicts(html)?;
        html.push_str("</body>\n</html>\n");
        Ok(())
    }

    /// The answer to the first question, in one sentence.
    fn write_answer(&self, html: &mut String, parts: &Parts<'_>) -> fmt::Result {
        let (all, goes, later) = (self.judgements.len(), self.count(Verdict::Remove), self.count(Verdict::Grace));
        html.push_str("<p class=\"answer\">");
        match (goes, later) {
            (0, 0) if self.deletions.is_empty() => write!(html, "<strong>Nothing goes.</strong>")?,
            (0, 0) => write!(html, "<strong>No tag goes.</strong>")?,
            (0, _) => write!(
                html,
                "<strong>Nothing goes yet</strong>, {later} of {all} tags later, up to {} of {}.",
                size(parts.all.later),
                size(parts.all.total())
            )?,
            _ => write!(
                html,
                "<strong>{goes} of {all} tags {}</strong>, up to {} of {}.",
                if goes == 1 { "goes" } else { "go" },
                size(parts.all.goes),
                size(parts.all.total())
            )?,
        }
        match self.deletions.len() {
            0 => {}
            images => write!(html, " Without a tag: {} to be deleted.", count(images, "image", "images"))?,
        }
        html.push_str("</p>\n");
        Ok(())
    }

    /// How many tags and bytes have which fate; the colours of the bars are told here.
    fn write_summary(&self, html: &mut String, all: Space) -> fmt::Result {
        bar(html, all, all.total())?;
        html.push_str(
            "<table>\n<thead><tr><td></td><th scope=\"col\" class=\"number\">tags</th><th scope=\"col\" class=\"number\">size</th><td></td></tr></thead>\n",
        );
        let grace = format!("dead, and goes when its grace period of {} is over", self.grace);
        let shared = format!("{}of one branch alone, {}of several", key("own"), key("shared"));
        for (fate, keys, word, bytes, what) in [
            (
                Fate::Goes,
                key("goes"),
                "goes",
                all.goes,
                "free when the registry has collected its garbage, if no other repository needs it",
            ),
            (Fate::Later, key("later"), "goes later", all.later, &grace),
            (Fate::Stays, key("own"), "stays", all.stays(), &shared),
        ] {
            let count = self.judgements.iter().filter(|judgement| Fate::of(judgement) == fate).count();
            if fate == Fate::Later && self.grace.is_none() {
                continue;
            }
            writeln!(
                html,
                "<tr><th scope=\"row\">{keys}{word}</th><td class=\"number\">{count}</td><td class=\"number\">{}</td><td>{what}</td></tr>",
                size(bytes)
            )?;
        }
        html.push_str("</table>\n");
        Ok(())
    }

    /// The images without a tag. They belong to no branch any more, and are not weighed.
    fn write_untagged(&self, html: &mut String) -> fmt::Result {
        if self.untagged.is_empty() {
            return Ok(());
        }
        writeln!(
            html,
            "<section>\n<h2>Images without a tag</h2>\n<p class=\"quiet\">{}; not weighed.</p>\n<table>",
            self.untagged_counts()
        )?;
        for leftover in &self.untagged {
            let (word, mut why) = (leftover.fate.word(), String::new());
            self.untagged_reason(leftover, &mut why)?;
            writeln!(
                html,
                "<tr><th scope=\"row\" class=\"{word}\">{word}</th><td class=\"digest\"><code>{}</code></td><td>{}</td></tr>",
                short(&leftover.digest),
                Escaped(&why)
            )?;
        }
        html.push_str("</table>\n</section>\n");
        Ok(())
    }

    fn write_verdicts(&self, html: &mut String) -> fmt::Result {
        html.push_str("<h2>Verdicts</h2>\n<table>\n");
        for verdict in Verdict::ALL.into_iter().rev() {
            let (word, count, means) = (verdict.word(), self.count(verdict), meaning(verdict));
            writeln!(
                html,
                "<tr><th scope=\"row\" class=\"{word}\">{word}</th><td class=\"number\">{count}</td><td>{means}</td></tr>"
            )?;
        }
        html.push_str("</table>\n");
        Ok(())
    }
}

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Keep => "a branch or a git tag needs it",
        Verdict::Foreign => "a release, or not written by git-image for this git repository; stays",
        Verdict::Unknown => "cannot be judged; stays",
        Verdict::Grace => "no branch needs it, and its grace period is not over; stays until then",
        Verdict::Restore => "an earlier run was stopped while it removed the tag; its image is put back",
        Verdict::Remove => "no branch needs it; goes",
    }
}

/// The rows of the list, one for each owner. A row opens.
struct Rows<'a> {
    plan: &'a Plan,
    blobs: &'a Blobs,
    /// The bytes of the longest bar.
    longest: u64,
    /// Whether what goes is shown opened.
    open: bool,
}

impl Rows<'_> {
    fn write(&self, html: &mut String, owner: &Owner, part: &Part<'_>, fate: Fate) -> fmt::Result {
        let open = if self.open && fate != Fate::Stays { " open" } else { "" };
        let name = owner.to_string();
        write!(html, "<details{open}>\n<summary><span class=\"row\"><bdi>{}</bdi>", Escaped(&name))?;
        bar(html, part.space, self.longest)?;
        let all = count(part.judgements().count(), "tag", "tags");
        let what = match fate {
            Fate::Goes => format!("goes: {} of {all}, {}", part.count(fate), size(part.space.goes)),
            Fate::Later => format!("goes later: {} of {all}, {}", part.count(fate), size(part.space.later)),
            Fate::Stays => all,
        };
        writeln!(
            html,
            "<span class=\"number\">{}</span><span>{what}</span></span></summary>\n<p class=\"quiet\">{}</p>",
            size(part.space.total()),
            breakdown(part.space)
        )?;
        self.table(html, part)?;
        html.push_str("</details>\n");
        Ok(())
    }

    fn table(&self, html: &mut String, part: &Part<'_>) -> fmt::Result {
        html.push_str(
            "<table class=\"tags\"><colgroup><col><col><col></colgroup>\n<thead><tr><th scope=\"col\">verdict</th>\
             <th scope=\"col\">tag</th><th scope=\"col\">why</th></tr></thead>\n",
        );
        let mut images: Vec<_> = part.images.iter().map(|(image, tags)| (*image, self.weight(*image), tags)).collect();
        images.sort_by_key(|(_, bytes, tags)| (tags.iter().map(|tag| Fate::of(tag)).min(), Reverse(*bytes)));
        for (image, bytes, judgements) in images {
            let name = image.map_or_else(|| "no image".to_owned(), |image| short(&image));
            let weight = bytes.map_or_else(String::new, |bytes| format!(", {}", size(bytes)));
            writeln!(html, "<tbody><tr><th colspan=\"3\" scope=\"rowgroup\"><code>{name}</code>{weight}</th></tr>")?;
            for judgement in in_order(judgements) {
                let word = judgement.verdict.word();
                let mut why = judgement.reason.to_string();
                self.plan.clock(judgement, &mut why)?;
                writeln!(
                    html,
                    "<tr><td class=\"{word}\">{word}</td><td><code>{}</code></td><td>{}</td></tr>",
                    Escaped(&judgement.tag),
                    Escaped(&why)
                )?;
            }
            html.push_str("</tbody>\n");
        }
        html.push_str("</table>\n");
        Ok(())
    }

    /// How large an image is; `None` when it could not be weighed.
    fn weight(&self, image: Option<Digest>) -> Option<u64> {
        let blobs = self.blobs.get(&image?).filter(|blobs| !blobs.is_empty())?;
        Some(blobs.iter().copied().collect::<BTreeMap<Digest, u64>>().values().sum())
    }
}

/// What goes first, then by name.
fn in_order<'a>(judgements: &[&'a Judgement]) -> Vec<&'a Judgement> {
    let mut judgements = judgements.to_vec();
    judgements.sort_by_key(|judgement| Fate::of(judgement));
    judgements
}

/// The parts of a space, each with the class of its colour.
fn parts_of(space: Space) -> [(&'static str, u64, &'static str); 4] {
    let Space { goes, later, own, shared } = space;
    [
        ("goes", goes, "goes"),
        ("later", later, "goes later"),
        ("own", own, "nobody else needs"),
        ("shared", shared, "others need too"),
    ]
}

/// The bytes of the longest bar: those of the largest branch where all older images together are many times as large, or
/// the bars of branches would be lines.
fn longest_bar(parts: &Parts<'_>) -> u64 {
    let totals = |is_shown: fn(&Owner) -> bool| {
        let parts = parts.of.iter().filter(move |(owner, _)| is_shown(owner));
        parts.map(|(_, part)| part.space.total()).max().unwrap_or_default()
    };
    let (all, branch) = (totals(|_| true), totals(|owner| matches!(owner, Owner::Branch(_) | Owner::Gone(_))));
    if 0 < branch && 3 * branch < all { branch } else { all }
}

/// A space as a bar; one that is longer than the longest has a gap. Its numbers stand beside it, so that nobody needs to
/// see it.
fn bar(html: &mut String, space: Space, longest: u64) -> fmt::Result {
    html.push_str("<svg class=\"bar\" aria-hidden=\"true\">");
    let whole = longest.max(space.total());
    let mut before = 0;
    for (class, bytes, _) in parts_of(space).into_iter().filter(|(_, bytes, _)| 0 < *bytes) {
        let (start, width) = (percent(before, whole), percent(bytes, whole));
        write!(html, "<rect class=\"{class}\" x=\"{start}%\" width=\"{width}%\" height=\"100%\"/>")?;
        before += bytes;
    }
    if longest < whole {
        html.push_str("<line x1=\"88%\" y1=\"110%\" x2=\"90%\" y2=\"-10%\"/>");
    }
    html.push_str("</svg>");
    Ok(())
}

fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn breakdown(space: Space) -> String {
    let parts = parts_of(space).into_iter().filter(|(_, bytes, _)| 0 < *bytes);
    parts.map(|(class, bytes, words)| format!("{}{} {words}", key(class), size(bytes))).collect::<Vec<_>>().join(", ")
}

/// The colour of a class, before the word for it.
fn key(class: &str) -> String {
    format!("<svg class=\"key\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"100%\" height=\"100%\"/></svg>")
}

/// Text in HTML: no tag, branch or label can be more than text, nor turn the text around it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // The characters of Unicode that change the direction of what follows.
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(f, "{}", c.escape_unicode())?;
                }
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_is_more_than_text() {
        assert_eq!(Escaped("<b a='\"'>&\n\u{202e}").to_string(), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\\n\\u{202e}");
    }
}
