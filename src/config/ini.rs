//! Parses INI files as Icinga Web does: the first step from a file's text to settings.
//!
//! Icinga Web uses PHP's `parse_ini_string` in raw mode and unescapes the result. The `ini` crate differs in where a value ends,
//! what is a comment, which names are trimmed and what a repeated section means. So [`parse`] splits each line as PHP does,
//! rejects what PHP rejects, and passes the crate lines that both read alike: names and values are percent-encoded, and each name
//! starts with its line number. That number also decides which of two equal names is the last one, and lets warnings name the
//! line.

use std::collections::BTreeMap;

use ini::inistr;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Secret;

/// Words that PHP reads as constants, in any case, and therefore rejects as keys.
const RESERVED_KEYS: [&str; 8] = ["true", "on", "yes", "false", "off", "no", "none", "null"];

/// Characters that PHP's manual (`parse_ini_file`) and scanner do not allow in keys.
const REFUSED_IN_KEYS: [char; 11] = ['{', '}', '|', '&', '~', '!', '(', ')', '^', '$', '"'];

/// Why a file is rejected. Never contains a value or a key: a stray line may be part of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Error {
    /// Counted from 1; 0 with [`Problem::Reader`].
    pub line: usize,
    /// The problem in that line.
    pub(crate) problem: Problem,
}

/// The problem of a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// Whitespace before `[`.
    #[error("a section must start at the beginning of its line, without spaces before [")]
    IndentedSection,
    /// No `]` on the line of the `[`.
    #[error("the section's name is not closed by ]")]
    UnterminatedSection,
    /// A key before the first section.
    #[error("a key before the first [section]")]
    KeyOutsideSection,
    /// Nothing before `=`.
    #[error("no key before =")]
    EmptyKey,
    /// A key that PHP reads as a constant.
    #[error("{0} cannot be a key, PHP reads it as a constant")]
    ReservedKey(&'static str),
    /// A key with a character that has another meaning to PHP; often the second line of a value.
    #[error("{0} cannot be part of a key (a value must end on its own line)")]
    KeyCharacter(char),
    /// The `ini` crate rejected a prepared line. No known text causes this. Its message contains no values.
    #[error("the INI reader failed on its prepared text: {0}")]
    Reader(String),
}

impl Problem {
    fn at(self, line: usize) -> Error {
        Error {
            line,
            problem: self,
        }
    }
}

/// One key of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    line: usize,
    key: String,
    // Any value may be a password, so debug output shows none.
    value: Option<Secret>,
}

impl Entry {
    /// The line in the file, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The key's name.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value; `None` for a key without `=`.
    pub fn value(&self) -> Option<&str> {
        self.value.as_ref().map(Secret::expose)
    }
}

/// A file's sections and their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IniFile {
    // Entries in the order of the file.
    sections: BTreeMap<String, Vec<Entry>>,
}

impl IniFile {
    /// The last entry of that name with a value.
    pub fn entry(&self, section: &str, key: &str) -> Option<&Entry> {
        // PHP ignores a key without `=`: it does not undo an earlier value.
        self.entries(section)
            .rfind(|entry| entry.key == key && entry.value.is_some())
    }

    /// All keys of a section in the order of the file, including repeated ones and those without `=`.
    pub fn entries(&self, section: &str) -> impl DoubleEndedIterator<Item = &Entry> {
        self.sections.get(section).into_iter().flatten()
    }

    /// The names of all sections, sorted.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    /// Whether the file has a section of that name; it may be empty.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.contains_key(name)
    }
}

/// Parses a file's text.
///
/// # Errors
///
/// What PHP rejects is rejected for the whole file; the error names the line.
pub fn parse(text: &str) -> Result<IniFile, Error> {
    let mut sections = Vec::new();
    for (header, keys) in
        inistr!(safe cs prepare(text)?).map_err(|reason| Problem::Reader(reason).at(0))?
    {
        let mut entries = Vec::with_capacity(keys.len());
        for (name, value) in keys {
            let (line, key) = restore_name(&name)?;
            let value = value.map(|encoded| Secret::new(decode(&encoded)));
            entries.push(Entry { line, key, value });
        }
        entries.sort_by_key(Entry::line);
        sections.push((restore_name(&header)?, entries));
    }
    sections.sort_by_key(|((line, _), _)| *line);
    // Collecting keeps the last of equal names: a repeated section replaces the earlier one.
    let sections = sections
        .into_iter()
        .map(|((_, name), entries)| (name, entries))
        .collect();
    Ok(IniFile { sections })
}

/// Rewrites the text so that the `ini` crate and PHP agree on it.
fn prepare(text: &str) -> Result<String, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n");
    let mut prepared = String::with_capacity(text.len());
    let mut in_section = false;
    for (line, whole) in (1..).zip(text.split(['\n', '\r'])) {
        let mut rest = whole.split('\0').next().unwrap_or_default();
        // A loop, because keys and further sections may follow on the same line.
        while let Some(opened) = rest.strip_prefix('[') {
            let (name, after) = opened
                .split_once(']')
                .ok_or(Problem::UnterminatedSection.at(line))?;
            prepared.push_str(&format!("[{line}.{}]\n", encode(&drop_escapes(name))));
            in_section = true;
            rest = after;
        }
        let (key, value) = match rest.find(['=', ';']) {
            Some(at) if rest[at..].starts_with('=') => (&rest[..at], Some(&rest[at + 1..])),
            Some(at) => (&rest[..at], None),
            None => (rest, None),
        };
        let key = trim(key);
        if key.is_empty() && value.is_none() {
            continue;
        }
        check_key(key, line)?;
        match value {
            Some(_) if !in_section => return Err(Problem::KeyOutsideSection.at(line)),
            Some(raw) => {
                prepared.push_str(&format!(
                    "{line}.{}={}\n",
                    encode(key),
                    encode(&value_of(raw))
                ));
            }
            // PHP ignores these. They are kept inside a section, so that a misspelt line can be warned about.
            None if in_section => prepared.push_str(&format!("{line}.{}\n", encode(key))),
            None => {}
        }
    }
    Ok(prepared)
}

fn check_key(key: &str, line: usize) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Problem::EmptyKey.at(line));
    }
    if key.starts_with('[') {
        return Err(Problem::IndentedSection.at(line));
    }
    if let Some(character) = key.chars().find(|c| REFUSED_IN_KEYS.contains(c)) {
        return Err(Problem::KeyCharacter(character).at(line));
    }
    match RESERVED_KEYS
        .iter()
        .find(|word| key.eq_ignore_ascii_case(word))
    {
        Some(word) => Err(Problem::ReservedKey(word).at(line)),
        None => Ok(()),
    }
}

/// The value that PHP and then Icinga Web read from the text after `=`.
fn value_of(raw: &str) -> String {
    let raw = trim(raw);
    // A value that begins with a quote ends at the line's last quote, and has everything between them unchanged.
    let taken = if raw.starts_with('"') {
        raw.rfind('"').unwrap_or(0)
    } else {
        0
    };
    let end = raw[taken..].find(';').map_or(raw.len(), |at| taken + at);
    let bare = trim(&raw[..end]);
    let unquoted = bare
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(bare);
    // In sequence, as in Icinga Web: each step reads the result of the one before.
    unquoted
        .replace("\\n", "\n")
        .replace("\\r", "\r")
        .replace("\\\"", "\"")
        .replace("\\\\", "\\")
}

/// Removes each backslash and keeps the character after it, as Icinga Web does in section names and libpq in its password file.
pub(super) fn drop_escapes(raw: &str) -> String {
    let mut plain = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(characters.next().unwrap_or('\\')),
            other => plain.push(other),
        }
    }
    plain
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Decodes a name that [`prepare`] encoded.
fn restore_name(prepared: &str) -> Result<(usize, String), Error> {
    prepared
        .split_once('.')
        .and_then(|(line, name)| Some((line.parse().ok()?, decode(name))))
        .ok_or_else(|| Problem::Reader("a name without its line number".to_owned()).at(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(file: &'a IniFile, section: &str, key: &str) -> Option<&'a str> {
        file.entry(section, key).and_then(Entry::value)
    }

    fn keys(file: &IniFile, section: &str) -> Vec<(usize, String)> {
        file.entries(section)
            .map(|entry| (entry.line(), entry.key().to_owned()))
            .collect()
    }

    #[test]
    fn a_repeated_section_replaces_the_earlier_one() {
        let file = parse("[s]\na = 1\n[t]\n[s]\nb = 2\n").unwrap();
        assert_eq!(get(&file, "s", "a"), None);
        assert_eq!(get(&file, "s", "b"), Some("2"));
    }

    #[test]
    fn a_section_repeated_after_more_than_nine_lines_replaces_the_earlier_one() {
        let text = format!("[s]\nk = old\n{}[s]\nk = new\n", "\n".repeat(20));
        assert_eq!(get(&parse(&text).unwrap(), "s", "k"), Some("new"));
    }

    #[test]
    fn a_repeated_empty_section_leaves_nothing_of_the_earlier_one() {
        let file = parse("[s]\na = 1\n[s]\n").unwrap();
        assert!(file.has_section("s"));
        assert_eq!(get(&file, "s", "a"), None);
    }

    #[test]
    fn a_key_without_equals_sign_does_not_undo_an_earlier_value() {
        assert_eq!(get(&parse("[s]\nk = v\nk\n").unwrap(), "s", "k"), Some("v"));
    }

    #[test]
    fn keys_come_with_their_lines_in_file_order() {
        let file = parse("[s] z = 1\r\n; c\r\n\r\na = 2\r\nbare\r\nz = 3\r\n").unwrap();
        let expected =
            [(1, "z"), (4, "a"), (5, "bare"), (6, "z")].map(|(line, key)| (line, key.to_owned()));
        assert_eq!(keys(&file, "s"), expected);
        assert_eq!(keys(&file, "absent"), []);
    }

    #[test]
    fn a_second_section_on_one_line_is_a_section() {
        let file = parse("[s][t] k = v\n").unwrap();
        assert_eq!(get(&file, "t", "k"), Some("v"));
        assert!(file.has_section("s"));
    }

    #[test]
    fn names_differing_in_case_or_unusual_whitespace_stay_apart() {
        let file = parse("[s]\nk = 1\nK = 2\n\u{a0}k = 3\n[default]\nk = 4\n").unwrap();
        assert_eq!(get(&file, "s", "k"), Some("1"));
        assert_eq!(get(&file, "s", "K"), Some("2"));
        assert_eq!(get(&file, "default", "k"), Some("4"));
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            ("[s]\n [t]\n", Problem::IndentedSection.at(2)),
            ("\n\n[s\n", Problem::UnterminatedSection.at(3)),
            ("; c\nk = v\n", Problem::KeyOutsideSection.at(2)),
            ("[s]\r\n = v\r\n", Problem::EmptyKey.at(2)),
            ("[s]\nNULL = v\n", Problem::ReservedKey("null").at(2)),
            ("[s]\ra|b = v\n", Problem::KeyCharacter('|').at(2)),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn the_second_line_of_a_password_is_not_in_the_error() {
        let error = parse("[s]\npassword = \"one\nhunter2\"\n").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn debug_output_hides_values() {
        let shown = format!("{:?}", parse("[s]\npassword = hunter2\n").unwrap());
        assert!(
            shown.contains("password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
