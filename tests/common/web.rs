//! What a browser gets from Icinga Web: a page, and the service worker of its module.

use std::path::Path;

/// Puts both below `directory`, where a proxy's workers can read them.
pub(crate) fn icinga_web(directory: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/icingaweb2");
    let web = directory.join("icingaweb2");
    std::fs::create_dir(&web).expect("a directory");
    for name in ["index.html", "worker.js"] {
        std::fs::copy(fixtures.join(name), web.join(name)).expect(name);
    }
}
