//! The links of every Markdown file: those within the repository lead to a file and a heading, and those to elsewhere are
//! well-formed. Nothing is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use pulldown_cmark::{BrokenLink, Event, LinkType, Options, Parser, Tag, TagEnd};
use warp::http::Uri;

use super::repository::{root, sources};

/// What a Markdown file links to, each with its line, and what can be linked to in it.
#[derive(Debug, Default)]
struct Page {
    links: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
    /// References without a definition.
    undefined: Vec<(usize, String)>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut undefined = Vec::new();
        let note = |broken: BrokenLink<'_>| {
            // A word in brackets alone is text.
            if matches!(
                broken.link_type,
                LinkType::Reference | LinkType::ReferenceUnknown
            ) {
                undefined.push((broken.span.start, broken.reference.to_string()));
            }
            None
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let parser = Parser::new_with_broken_link_callback(text, options, Some(note));
        let line = |offset: usize| text[..offset].matches('\n').count() + 1;
        let mut heading: Option<String> = None;
        for (event, range) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line(range.start), dest_url.to_string()));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.add_heading(&heading.take().unwrap_or_default());
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    let here = line(range.start);
                    let links = ["href", "src"].map(|name| attributes(&html, name));
                    let links = links.into_iter().flatten();
                    page.links.extend(links.map(|link| (here, link)));
                    page.anchors.extend(attributes(&html, "id"));
                }
                _ => {}
            }
        }
        page.undefined = (undefined.into_iter())
            .map(|(offset, reference)| (line(offset), reference))
            .collect();
        page
    }

    /// As GitHub names headings: in lower case, without punctuation, and with a number from the second of its name on.
    fn add_heading(&mut self, text: &str) {
        let slug: String = (text.trim().to_lowercase().chars())
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut name = slug.clone();
        for number in 1.. {
            if self.anchors.insert(name) {
                return;
            }
            name = format!("{slug}-{number}");
        }
    }
}

/// The values of an attribute in a piece of HTML.
fn attributes(html: &str, name: &str) -> Vec<String> {
    let begin = format!(" {name}=\"");
    let values = html.split(&begin).skip(1);
    values
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

/// Where a path leads from a file, without `..`; `None` beyond the repository.
fn resolve(from: &Path, path: &str) -> Option<PathBuf> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let mut resolved = from.parent()?.to_owned();
    for component in Path::new(path.as_ref()).components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir => {
                if !resolved.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved)
}

/// What is wrong with a link of the page at `from`.
fn problem(pages: &BTreeMap<PathBuf, Page>, from: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return external(link);
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link, None),
    };
    let target = if path.is_empty() {
        Some(from.to_owned())
    } else {
        resolve(from, path)
    };
    let Some(target) = target.filter(|target| !target.starts_with("target")) else {
        return Some("leads out of the repository".to_owned());
    };
    if !pages.contains_key(&target) && !root().join(&target).exists() {
        return Some(format!("{} does not exist", target.display()));
    }
    let anchor = anchor?;
    match pages.get(&target) {
        None => Some(format!("{} has no headings", target.display())),
        Some(page) if page.anchors.contains(anchor) => None,
        Some(_) => Some(format!("{} has no heading #{anchor}", target.display())),
    }
}

fn external(link: &str) -> Option<String> {
    let uri: Uri = match link.parse() {
        Ok(uri) => uri,
        Err(error) => return Some(error.to_string()),
    };
    if uri.scheme_str() != Some("https") {
        return Some("is not https".to_owned());
    }
    let host = uri.host().unwrap_or_default();
    let labels = host.split('.');
    if labels.clone().count() < 2 || labels.clone().any(str::is_empty) {
        return Some(format!("{host:?} is no host"));
    }
    None
}

/// A line for each link that is wrong.
fn problems(pages: &BTreeMap<PathBuf, Page>) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, page) in pages {
        for (line, link) in &page.links {
            if let Some(problem) = problem(pages, path, link) {
                problems.push(format!("{}:{line}: ({link}) {problem}", path.display()));
            }
        }
        for (line, reference) in &page.undefined {
            problems.push(format!(
                "{}:{line}: [{reference}] is not defined",
                path.display()
            ));
        }
    }
    problems
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let pages: BTreeMap<_, _> = (sources().into_iter())
        .filter(|source| source.has_extension(&["md"]))
        .map(|source| (source.path, Page::read(&source.text)))
        .collect();
    let links: usize = pages.values().map(|page| page.links.len()).sum();
    assert!(links > 100, "only {links} links in {} pages", pages.len());
    let problems = problems(&pages);
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_named() {
    let there = "# The *one* `two`, three!\n\n## Again\n\n## Again\n\n<a id=\"own\"></a>\n";
    let wrong = |text: &str| {
        let pages = BTreeMap::from([
            (PathBuf::from("doc/here.md"), Page::read(text)),
            (PathBuf::from("there.md"), Page::read(there)),
        ]);
        problems(&pages)
    };
    for good in [
        "[a](../there.md) [b](../there.md#the-one-two-three) ![c](../Cargo.toml)",
        "[a](../there.md#again) [b](../there.md#again-1) [c](../there.md#own)",
        "# Mine\n[a](#mine) [b][c] [d] `[e](f)`\n\n    [g](h)\n\n[c]: ../src \"a directory\"",
        "[a](https://example.com/x?y#z) <https://example.com>",
    ] {
        assert_eq!(wrong(good), [""; 0], "{good}");
    }
    for bad in [
        "[a](../nowhere.md)",
        "[a](there.md)",
        "[a](../../there.md)",
        "[a](/there.md)",
        "[a](../there.md#again-2)",
        "[a](#mine)",
        "[a](../Cargo.toml#package)",
        "[a](../target/x)",
        "![a](nowhere.png)",
        "<img src=\"nowhere.png\">",
        "[a][b]",
        "[a](https://example)",
        "[a](https://example..com)",
        "[a](http://example.com)",
        "[a](https:///x)",
        "| a |\n|---|\n| [a](nowhere.md) |",
    ] {
        assert_eq!(wrong(bad).len(), 1, "{bad}: {:?}", wrong(bad));
    }
    assert_eq!(
        wrong("one\n\n[a](x.md)"),
        ["doc/here.md:3: (x.md) doc/x.md does not exist"]
    );
}
