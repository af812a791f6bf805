//! Ends a server with the test process, however that ends.

use super::endpoint::Endpoint;
use crate::common::guardian::Guardian;

/// Stops the server and removes its directory. Arguments: the directory, then the command that stops the server in it.
const SCRIPT: &str = r#"
    trap '' HUP INT TERM
    directory=$1; shift
    cat > /dev/null
    if [ -e "$directory/data/postmaster.pid" ]; then
        # A test may have been killed while the server was frozen, and a stopped process cannot end.
        pid=$(head -n 1 "$directory/data/postmaster.pid")
        kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children")
        "$@"
    fi
    rm -rf "$directory"
"#;

/// Guards the server of `endpoint`, whether it is started or not.
pub(super) fn guard(endpoint: &Endpoint) -> Guardian {
    let mut stop = endpoint.server_command("pg_ctl");
    stop.arg("-D")
        .arg(endpoint.data())
        .args(["-m", "immediate", "-w", "stop"]);
    Guardian::start(SCRIPT, |shell| {
        shell
            .arg(&endpoint.directory)
            .arg(stop.get_program())
            .args(stop.get_args());
    })
}
