//! Texts for people use the common words: those that the manual's first readers did not understand are not used again.
//!
//! Read are the manual, `--help`, the texts of log and errors, the status page, SQL scripts and what is packaged. Code and its
//! comments are left alone, but for the phrases.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::Lit;

use super::repository::{Source, sources};

/// Words that are not used, in any case, and what to write instead.
const WORDS: [(&str, &str); 15] = [
    ("told", "sent, notified, reported"),
    ("tell", "send, notify, report, distinguish"),
    ("tells", "sends, notifies, reports"),
    ("whoever", "a role that, a client that"),
    ("who may", "a role that can, a user with the right to"),
    ("away", "unreachable, down, not connected"),
    ("amiss", "wrong"),
    ("knock", "request"),
    ("knocks", "requests"),
    ("ears", "listener"),
    ("tide", "watermark"),
    ("outlet", "channel"),
    ("outlets", "channels"),
    ("farewell", "final block"),
    ("farewells", "final blocks"),
];

/// Phrases that were replaced, or what is peculiar in them. They are not used in code either.
const PHRASES: [&str; 13] = [
    "may connect to the database can hear",
    "keep nobody from being told",
    "keep no later notification from anybody",
    "of keep-alives and replays is in force",
    "a task ended unasked",
    "so that the service manager starts anew",
    "did not take their farewell",
    "do not live through a 502",
    "panicked with it left it valid",
    "need not be told of any more",
    "goes nothing but a random number",
    "the browser that the request says to be",
    "whatever the server says",
];

/// Where such a word is meant: the words around it, and why.
const ALLOWED: [(&str, &str); 5] = [
    ("right away", "at once, in the usual words"),
    (
        "while you were away",
        "a user, in the usual words: the popup that stands for a replay",
    ),
    ("away.asis", "a file that is packaged"),
    (
        "icinga-desktop-bridge-away",
        "a path in the shipped files of Apache",
    ),
    (
        "waiting, away, before_sign_in",
        "a value of explain --json, which tools rely on",
    ),
];

/// A word in lower case, and the line that it is in.
type Word = (String, usize);

/// The words of a text that begins in line `first`. Punctuation, and how lines are broken, makes no difference.
fn words(text: &str, first: usize) -> Vec<Word> {
    let mut words = Vec::new();
    for (line, text) in (first..).zip(text.lines()) {
        let split = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let split = split.filter(|word| !word.is_empty());
        words.extend(split.map(|word| (word.to_lowercase(), line)));
    }
    words
}

/// Where a phrase begins in a text.
fn places(text: &[Word], phrase: &str) -> Vec<usize> {
    let phrase = words(phrase, 0);
    let same = |window: &[Word]| window.iter().map(|w| &w.0).eq(phrase.iter().map(|w| &w.0));
    let windows = text.windows(phrase.len()).enumerate();
    windows
        .filter(|(_, window)| same(window))
        .map(|(place, _)| place)
        .collect()
}

/// A line for each use of what is not used.
fn findings<'a>(
    text: &[Word],
    unused: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeSet<(usize, String)> {
    let mut allowed = BTreeSet::new();
    for (phrase, _) in ALLOWED {
        for place in places(text, phrase) {
            allowed.extend(place..place + words(phrase, 0).len());
        }
    }
    let mut findings = BTreeSet::new();
    for (phrase, instead) in unused {
        for place in places(text, phrase) {
            if !allowed.contains(&place) {
                findings.insert((text[place].1, format!("{phrase:?}: {instead}")));
            }
        }
    }
    findings
}

/// What a source of Rust says to people: its literals, each with its line, without those of tests and of attributes for the
/// compiler. Comments for documentation count where they are shown, in the command line's `help`.
fn literals(source: &str, help: bool) -> Vec<(usize, String)> {
    let mut literals = Vec::new();
    let tokens: TokenStream = source.parse().expect("a source");
    collect(tokens, help, &mut literals);
    literals
}

fn collect(tokens: TokenStream, help: bool, literals: &mut Vec<(usize, String)>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let _ = tokens.next_if(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == '!'));
                let is_attribute = |token: &TokenTree| matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Bracket);
                let Some(TokenTree::Group(attribute)) = tokens.next_if(is_attribute) else {
                    continue;
                };
                let text = attribute.stream().to_string().replace(' ', "");
                let name: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
                if text == "cfg(test)" {
                    // The item behind it, which ends with a block or a semicolon.
                    for token in tokens.by_ref() {
                        match token {
                            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => break,
                            TokenTree::Punct(p) if p.as_char() == ';' => break,
                            _ => {}
                        }
                    }
                } else if match name.as_str() {
                    "doc" => help,
                    "allow" | "expect" | "warn" | "deny" => false,
                    // Values for tools.
                    "serde" => false,
                    _ => true,
                } {
                    collect(attribute.stream(), help, literals);
                }
            }
            TokenTree::Group(group) => collect(group.stream(), help, literals),
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                let text = match Lit::new(literal) {
                    Lit::Str(text) => text.value(),
                    Lit::ByteStr(bytes) => String::from_utf8_lossy(&bytes.value()).into_owned(),
                    _ => continue,
                };
                literals.push((line, without_names(&text)));
            }
            _ => {}
        }
    }
}

/// A text without the names of variables that are put into it: `{these}` and `{these:?}`.
fn without_names(text: &str) -> String {
    let mut rest = text;
    let mut left = String::new();
    while let Some((before, behind)) = rest.split_once('{') {
        left.push_str(before);
        rest = behind;
        let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        if let Some(end) = end
            && let Some(close) = behind[end..].find('}')
            && (close == 0 || behind[end..].starts_with(':'))
            && !behind[end..end + close].contains(['"', '{', ' '])
        {
            rest = &behind[end + close + 1..];
        }
        left.push(' ');
    }
    left + rest
}

/// What a file says to people.
fn texts(source: &Source) -> Vec<Word> {
    let path = source.path.to_str().expect("UTF-8");
    let in_src = path.starts_with("src/");
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    if source.has_extension(&["rs"]) {
        if is_test || !(in_src || path == "examples/man.rs") {
            return Vec::new();
        }
        let help = path == "src/cli.rs";
        let mut all = Vec::new();
        for (line, text) in literals(&source.text, help) {
            if !help {
                // Two literals are not one phrase; the lines of a comment are.
                all.push((String::new(), line));
            }
            all.extend(words(&text, line));
        }
        return all;
    }
    let shown = in_src
        || path.starts_with("packaging/")
        || path.starts_with("sql/")
        || path == "Cargo.toml"
        || source.has_extension(&["md"]);
    if shown {
        words(&source.text, 1)
    } else {
        Vec::new()
    }
}

#[test]
fn texts_for_people_use_common_words() {
    let mut found = Vec::new();
    let mut read = 0;
    for source in sources() {
        if source.path.ends_with("properties/words.rs") {
            continue;
        }
        let shown = texts(&source);
        read += shown.len();
        let mut findings = findings(&shown, WORDS.into_iter());
        let all = words(&source.text, 1);
        let phrases = PHRASES
            .iter()
            .map(|phrase| (*phrase, "a phrase that was replaced"));
        findings.append(&mut self::findings(&all, phrases));
        for (line, finding) in findings {
            found.push(format!("{}:{line}: {finding}", source.path.display()));
        }
    }
    assert!(read > 30_000, "only {read} words");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn an_unused_word_is_found_wherever_people_read_it() {
    let found = |path: &str, text: &str| -> Vec<usize> {
        let source = Source {
            path: path.into(),
            text: text.to_owned(),
        };
        let findings = findings(&texts(&source), WORDS.into_iter());
        findings.into_iter().map(|(line, _)| line).collect()
    };
    for (path, text, line) in [
        ("README.md", "one\nTold, twice", 2),
        ("README.md", "a role who\nmay connect", 1),
        ("README.md", "the `ears`", 1),
        ("README.md", "right\n\naway. The user is away.", 3),
        ("sql/install.sql", "-- It tells", 1),
        ("packaging/nginx/x.conf", "# amiss", 1),
        ("src/http/status/page.html", "<p>told</p>", 1),
        ("src/a.rs", "\nfn f() { warn!(\"one told\"); }", 2),
        ("src/a.rs", "const A: &str = \"one \\\n  told\";", 1),
        ("src/a.rs", "const A: &str = r#\"\n\"told\"\"#;", 2),
        ("src/a.rs", "#[error(\"{0} told\")]\nstruct A;", 1),
        (
            "src/a.rs",
            "#[cfg(test)]\nmod a;\nconst A: &[u8] = b\"told\";",
            3,
        ),
        (
            "src/a.rs",
            "#[cfg(test)]\nmod a { fn f() {} }\nconst A: &str = \"told\";",
            3,
        ),
        ("src/a.rs", "const A: &str = \"{a} told {b:?}\";", 1),
        ("src/a.rs", "const A: &str = \"{\\\"told\\\": 1}\";", 1),
        ("src/cli.rs", "/// What it tells.\nstruct A;", 1),
        (
            "src/cli.rs",
            "\n/// A user who\n/// may connect.\nstruct A;",
            2,
        ),
        ("examples/man.rs", "const A: &str = \"told\";", 1),
    ] {
        assert_eq!(found(path, text), [line], "{path}: {text}");
    }
    for (path, text) in [
        (
            "README.md",
            "right away, and\nright\naway; years, retold, `told_until`, `away.asis`",
        ),
        ("src/a.rs", "/// What it tells.\n// Told.\nfn told() {}"),
        (
            "src/a.rs",
            "#[cfg(test)]\nmod tests { const A: &str = \"told\"; }",
        ),
        (
            "src/a.rs",
            "#[allow(dead_code, reason = \"told\")]\nstruct A;",
        ),
        ("src/a.rs", "const A: &str = \"{told} {tell:?} {away:.1}\";"),
        ("src/a.rs", "const A: [&str; 2] = [\"who\", \"may\"];"),
        ("src/a/tests.rs", "const A: &str = \"told\";"),
        ("tests/bridge/a.rs", "const A: &str = \"told\";"),
    ] {
        assert_eq!(found(path, text), [0; 0], "{path}: {text}");
    }
}

#[test]
fn a_replaced_phrase_is_found_across_lines_of_a_comment() {
    let text = words("x\n/// Whatever the\n/// server says.", 1);
    let phrases = PHRASES.iter().map(|phrase| (*phrase, ""));
    let found = findings(&text, phrases);
    assert_eq!(found.first().map(|(line, _)| *line), Some(2));
}
