//! A plan as one HTML page: what each branch has, how large it is, what goes and why. It needs no network and no script.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::{Judgement, Plan, Reason, Verdict};
use crate::decide::tags::OurTag;
use crate::names::Digest;
use crate::say::size;

/// The blobs of each image, with their sizes in bytes. An image that could not be weighed is left out.
pub type Blobs = BTreeMap<Digest, Vec<(Digest, u64)>>;

/// To whom an image belongs: the first that fits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Branch(String),
    Gone(String),
    History,
    Dead,
    Others,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => f.write_str(name),
            Self::Gone(slug) => write!(f, "{slug} (gone)"),
            Self::History => f.write_str("older images that branches or git tags reach"),
            Self::Dead => f.write_str("images of no branch"),
            Self::Others => f.write_str("not of this image"),
        }
    }
}

/// The images of one owner.
#[derive(Default)]
struct Part<'a> {
    images: BTreeMap<Option<Digest>, Vec<&'a Judgement>>,
    /// Bytes that nobody else needs and that stay, that others need too, and that go.
    own: u64,
    shared: u64,
    goes: u64,
}

impl Plan {
    /// The page.
    pub fn page(&self, blobs: &Blobs) -> String {
        let parts = self.parts(blobs);
        let total: u64 = blobs.values().flatten().copied().collect::<BTreeMap<Digest, u64>>().values().sum();
        let goes: u64 = parts.values().map(|part| part.goes).sum();
        let mut html = String::new();
        // Writing to a text cannot fail.
        let _ = self.write(&mut html, &parts, total, goes);
        html
    }

    fn write(&self, html: &mut String, parts: &BTreeMap<Owner, Part<'_>>, total: u64, goes: u64) -> fmt::Result {
        let registry = Escaped(&self.registry);
        write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{registry}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{registry}</h1>\n"
        )?;
        let (git, now, grace) = (Escaped(self.repository.as_str()), self.now, self.grace);
        writeln!(html, "<p>Planned {now} by <code>{git}</code>, grace {grace}.</p>")?;
        let counts = Verdict::ALL.map(|verdict| format!("{} {}", self.count(verdict), verdict.word()));
        writeln!(
            html,
            "<p>{} tags: {}. {} in all; nothing but what goes needs {}, which garbage collection frees.</p>",
            self.judgements.len(),
            counts.join(", "),
            size(total),
            size(goes)
        )?;
        if let Err(refusal) = self.within_limits() {
            writeln!(html, "<p class=\"remove\">--apply would refuse: {}</p>", Escaped(&refusal.to_string()))?;
        }
        picture(html, parts)?;
        for (owner, part) in parts {
            let bytes = part.own + part.shared + part.goes;
            writeln!(
                html,
                "<h2>{}</h2>\n<p>{}: {} of its own, {} that others need too, {} that goes.</p>",
                Escaped(&owner.to_string()),
                size(bytes),
                size(part.own),
                size(part.shared),
                size(part.goes)
            )?;
            table(html, self, part)?;
        }
        html.push_str("</body>\n</html>\n");
        Ok(())
    }

    /// Who has what.
    fn parts<'a>(&'a self, blobs: &Blobs) -> BTreeMap<Owner, Part<'a>> {
        let mut owners: BTreeMap<Digest, Owner> = BTreeMap::new();
        for judgement in &self.judgements {
            if let Some(image) = judgement.image {
                let owner = self.owner(judgement);
                let known = owners.entry(image).or_insert_with(|| owner.clone());
                if owner < *known {
                    *known = owner;
                }
            }
        }
        let mut parts: BTreeMap<Owner, Part<'_>> = BTreeMap::new();
        let mut stays = BTreeSet::new();
        for judgement in &self.judgements {
            let owner = judgement.image.and_then(|image| owners.get(&image).cloned());
            let part = parts.entry(owner.unwrap_or_else(|| self.owner(judgement))).or_default();
            part.images.entry(judgement.image).or_default().push(judgement);
            if judgement.verdict != Verdict::Remove {
                stays.extend(judgement.image);
            }
        }
        // Which owners need a blob, and whether an image that stays does.
        let mut needed: BTreeMap<Digest, (u64, BTreeSet<&Owner>, bool)> = BTreeMap::new();
        for (image, list) in blobs {
            let Some(owner) = owners.get(image) else { continue };
            for (blob, bytes) in list {
                let need = needed.entry(*blob).or_insert((*bytes, BTreeSet::new(), false));
                need.1.insert(owner);
                need.2 |= stays.contains(image);
            }
        }
        for (bytes, by, stays) in needed.values() {
            for owner in by {
                let Some(part) = parts.get_mut(*owner) else { continue };
                match (stays, by.len()) {
                    (_, 2..) => part.shared += bytes,
                    (true, _) => part.own += bytes,
                    (false, _) => part.goes += bytes,
                }
            }
        }
        parts
    }

    fn owner(&self, judgement: &Judgement) -> Owner {
        match &judgement.reason {
            Reason::BranchLives(branch) | Reason::NewestOf(branch) | Reason::LastOf(branch, _) => {
                return Owner::Branch(branch.to_string());
            }
            _ => {}
        }
        if matches!(judgement.verdict, Verdict::Foreign | Verdict::Unknown) {
            return Owner::Others;
        }
        let tag = judgement.tag.strip_prefix(&self.tag_prefix).and_then(|name| name.parse().ok());
        match tag.map(|tag| crate::decide::tags::classify("", &tag)) {
            Some(OurTag::Latest { slug } | OurTag::Cache { slug, .. }) => Owner::Gone(slug),
            _ if judgement.is_dead() => Owner::Dead,
            _ => Owner::History,
        }
    }
}

/// The space of each owner, as bars.
fn picture(html: &mut String, parts: &BTreeMap<Owner, Part<'_>>) -> fmt::Result {
    const WIDTH: u64 = 640;
    const ROW: usize = 26;
    let mut rows: Vec<(&Owner, &Part<'_>)> = parts.iter().collect();
    rows.sort_by_key(|(_, part)| std::cmp::Reverse(part.own + part.shared + part.goes));
    let shown = rows.len().min(40);
    let largest = rows.iter().map(|(_, part)| part.own + part.shared + part.goes).max().unwrap_or(0).max(1);
    let height = ROW * (shown + 1);
    writeln!(
        html,
        "<svg viewBox=\"0 0 1000 {height}\" role=\"img\" aria-label=\"space by branch\" xmlns=\"http://www.w3.org/2000/svg\">"
    )?;
    for (row, (owner, part)) in rows.into_iter().take(shown).enumerate() {
        let y = row * ROW;
        let name: String = owner.to_string();
        let short: String = name.chars().take(30).collect();
        writeln!(html, "<text x=\"230\" y=\"{}\" text-anchor=\"end\">{}</text>", y + 17, Escaped(&short))?;
        let mut x = 240;
        let total = part.own + part.shared + part.goes;
        for (class, bytes) in [("own", part.own), ("shared", part.shared), ("goes", part.goes)] {
            let width = u64::try_from(u128::from(bytes) * u128::from(WIDTH) / u128::from(largest)).unwrap_or(WIDTH);
            if width > 0 {
                writeln!(
                    html,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"18\"><title>{}: {}</title></rect>",
                    y + 4,
                    Escaped(&name),
                    size(bytes)
                )?;
            }
            x += width;
        }
        writeln!(html, "<text x=\"{}\" y=\"{}\">{}</text>", x + 8, y + 17, size(total))?;
    }
    let y = ROW * shown;
    for (x, class, words) in [(240, "own", "its own"), (340, "shared", "others need it too"), (520, "goes", "goes")] {
        writeln!(
            html,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"{}\">{words}</text>",
            y + 8,
            x + 18,
            y + 18
        )?;
    }
    html.push_str("</svg>\n");
    Ok(())
}

fn table(html: &mut String, plan: &Plan, part: &Part<'_>) -> fmt::Result {
    html.push_str("<table>\n<tr><th>image</th><th>verdict</th><th>tag</th><th>why</th></tr>\n");
    for (image, judgements) in &part.images {
        let name = image.map_or_else(|| "-".to_owned(), |image| image.hex()[..12].to_owned());
        for (number, judgement) in judgements.iter().enumerate() {
            html.push_str("<tr>");
            if number == 0 {
                write!(html, "<td rowspan=\"{}\"><code>{name}</code></td>", judgements.len())?;
            }
            let word = judgement.verdict.word();
            let mut why = judgement.reason.to_string();
            plan.clock(judgement, &mut why)?;
            writeln!(
                html,
                "<td class=\"{word}\">{word}</td><td><code>{}</code></td><td>{}</td></tr>",
                Escaped(&judgement.tag),
                Escaped(&why)
            )?;
        }
    }
    html.push_str("</table>\n");
    Ok(())
}

/// Text in HTML: no tag, branch or label can be more than text.
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
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

const STYLE: &str = "
:root { --line: #d5d9de; --own: #3b7dd8; --shared: #a9c4ea; --goes: #d9534f; }
@media (prefers-color-scheme: dark) { :root { --line: #3a3f46; --own: #6ea8fe; --shared: #35527d; --goes: #e06c66; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
h1 { font-size: 1.4em; overflow-wrap: anywhere; } h2 { font-size: 1.1em; margin: 2em 0 0; overflow-wrap: anywhere; }
svg { width: 100%; } svg text { font-size: 13px; fill: CanvasText; }
.own { fill: var(--own); } .shared { fill: var(--shared); } rect.goes { fill: var(--goes); }
table { border-collapse: collapse; width: 100%; } td, th { border-top: 1px solid var(--line); padding: .25em .6em .25em 0; text-align: left; vertical-align: top; }
td:nth-last-child(2) { overflow-wrap: anywhere; } code { font-size: .9em; }
.remove { color: var(--goes); font-weight: bold; } .grace { color: var(--goes); }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_others_is_more_than_text() {
        assert_eq!(Escaped("<b a='\"'>&\n").to_string(), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\\n");
    }
}
