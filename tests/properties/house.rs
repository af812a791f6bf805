//! The order of the modules: a stage imports only stages after it, so that data moves in one direction and no two stages depend
//! on each other.

use std::path::Path;

use super::repository::sources;

/// The stages, in the order of the data. Stages in one line do not import each other, except in the last line, which has plain
/// values.
const ORDER: [&[&str]; 8] = [
    &["main"],
    &["cli", "lifecycle"],
    &["commands", "listen", "http"],
    &["ask", "resolve", "deliver", "auth"],
    &["hub"],
    &["database", "net"],
    &["observe"],
    &["config", "model", "systemd"],
];

/// The position of a stage.
///
/// # Panics
///
/// If it is not in [`ORDER`].
fn place(stage: &str) -> usize {
    let place = ORDER.iter().position(|line| line.contains(&stage));
    place.unwrap_or_else(|| panic!("{stage} has no place in ORDER"))
}

/// The stage that a file of `src/` belongs to.
fn stage(file: &Path) -> String {
    let first = file.iter().next().expect("not empty");
    first.to_str().expect("UTF-8").replace(".rs", "")
}

/// The stages that a source imports: the names after `crate::`, outside comments.
fn imports(source: &str) -> Vec<(usize, &str)> {
    let mut imports = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for path in code.split("crate::").skip(1) {
            let end = path.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            imports.push((index + 1, &path[..end.unwrap_or(path.len())]));
        }
    }
    imports
}

/// The errors in a file's imports, one line each.
fn violations(file: &Path, source: &str) -> Vec<String> {
    let from = stage(file);
    let allowed = |to: &str| {
        let plain = ["config", "model"];
        from == to
            || place(&from) < place(to)
            || (plain.contains(&from.as_str()) && plain.contains(&to))
    };
    let wrong = imports(source).into_iter().filter(|(_, to)| !allowed(to));
    wrong
        .map(|(line, to)| {
            format!(
                "src/{}:{line}: {from} imports {to}, which does not come after it",
                file.display()
            )
        })
        .collect()
}

#[test]
fn a_stage_imports_only_what_comes_after_it() {
    let sources = sources().into_iter().filter_map(|source| {
        let file = source.path.strip_prefix("src").ok()?.to_owned();
        let counts = source.has_extension(&["rs"]) && file != Path::new("lib.rs");
        counts.then_some((file, source.text))
    });
    let sources: Vec<_> = sources.collect();
    assert!(sources.len() > 50, "only {} files", sources.len());
    let wrong: Vec<_> = (sources.iter())
        .flat_map(|(file, text)| violations(file, text))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_import_against_the_order_is_named() {
    let violations = |file: &str, source| violations(Path::new(file), source);
    assert_eq!(
        violations(
            "hub/registry.rs",
            "use crate::net;\nuse crate::http::serve;\n"
        ),
        ["src/hub/registry.rs:2: hub imports http, which does not come after it"]
    );
    for (file, source) in [
        ("http/subscribe.rs", "use crate::listen::Listener;"),
        ("model/event.rs", "let x = crate::systemd::ready();"),
        ("systemd.rs", "use crate::config::Config;"),
        (
            "observe/metrics.rs",
            "pub(crate) use crate::database::Queries;",
        ),
    ] {
        assert_eq!(violations(file, source).len(), 1, "{file}: {source}");
    }
    for (file, source) in [
        (
            "hub/registry.rs",
            "use crate::hub::memory; // not crate::http",
        ),
        ("config/daemon.rs", "use crate::model::event;"),
        ("main.rs", "use crate::cli::Cli;"),
        ("database/session.rs", "pub(in crate::database) fn f()"),
    ] {
        assert!(violations(file, source).is_empty(), "{file}: {source}");
    }
}
