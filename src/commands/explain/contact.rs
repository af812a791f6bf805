//! The contact, or contacts with a similar name.

use super::report::{Contact, Report};
use crate::commands::Problem;
use crate::database::{ContactRow, Session};

/// How many similar names are shown.
const NAMED: usize = 3;

/// The contact with that user name; if there is none, reports similar ones.
pub(super) async fn find(
    session: &Session,
    user: &str,
    report: &mut Report,
) -> Result<Option<ContactRow>, Problem> {
    let asked = user.escape_debug();
    let Some(contact) = session.contact_row(user).await? else {
        none(session, user, report).await?;
        return Ok(None);
    };
    let (id, spelled) = (contact.id, contact.username.escape_debug());
    let spelled = if contact.username == user {
        String::new()
    } else {
        format!(", spelled \"{spelled}\" there; case does not matter")
    };
    report.ok(
        "contact",
        format!("\"{asked}\" is contact {id} of Icinga Notifications{spelled}"),
    );
    report.contact = Some(Contact {
        id,
        username: contact.username.clone(),
    });
    Ok(Some(contact))
}

/// Reports contacts whose name is similar to an unknown one.
async fn none(session: &Session, user: &str, report: &mut Report) -> Result<(), Problem> {
    let candidates = session.similar_usernames(user, slack(user)).await?;
    let hint = match Similar::to(user, candidates) {
        Similar::ButForSpaces(name) => format!(
            "contact \"{}\" differs only in spaces: the field Icinga Web User must be exactly the user's name",
            name.escape_debug()
        ),
        Similar::Names(names) if names.is_empty() => {
            "no name is similar; see Contacts in Icinga Web, field Icinga Web User".to_owned()
        }
        Similar::Names(names) => {
            let names = names
                .iter()
                .map(|name| format!("\"{}\"", name.escape_debug()));
            format!(
                "similar: {}; see Contacts in Icinga Web, field Icinga Web User",
                names.collect::<Vec<_>>().join(", ")
            )
        }
    };
    let asked = user.escape_debug();
    report.fail(
        "contact",
        format!(
            "no contact of Icinga Notifications has the user name \"{asked}\", or it was deleted; {hint}"
        ),
    );
    if session.sessions(user, 1).await?.is_empty() {
        report.note(
            "browsers",
            format!("nobody is signed in to Icinga Web as \"{asked}\""),
        );
    } else {
        report.fail(
            "browsers",
            format!(
                "\"{asked}\" is signed in to Icinga Web, but gets no stream without a contact. Create one, then reload the page"
            ),
        );
    }
    Ok(())
}

/// By how many characters a similar name may differ.
fn slack(user: &str) -> usize {
    (user.chars().count() / 3).clamp(1, 3)
}

/// The names that are similar.
#[derive(Debug, PartialEq, Eq)]
enum Similar {
    /// A name that differs only in spaces.
    ButForSpaces(String),
    /// Similar names, the most similar first.
    Names(Vec<String>),
}

impl Similar {
    fn to(user: &str, candidates: Vec<String>) -> Self {
        let plain =
            |name: &str| -> String { name.split_whitespace().collect::<String>().to_lowercase() };
        let meant = user.to_lowercase();
        let mut near = Vec::new();
        for name in candidates {
            if plain(&name) == plain(user) {
                return Self::ButForSpaces(name);
            }
            let distance = strsim::damerau_levenshtein(&meant, &name.to_lowercase());
            if distance <= slack(user) {
                near.push((distance, name));
            }
        }
        near.sort_unstable();
        let nearest = near.into_iter().take(NAMED).map(|(_, name)| name);
        Self::Names(nearest.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found() {
        let to = |user: &str, candidates: &[&str]| {
            Similar::to(
                user,
                candidates.iter().copied().map(str::to_owned).collect(),
            )
        };
        let names =
            |names: &[&str]| Similar::Names(names.iter().copied().map(str::to_owned).collect());
        for spaced in ["alice ", " Alice", "al ice", "alice\n", "alice\u{a0}"] {
            assert_eq!(
                to("alice", &["alicf", spaced]),
                Similar::ButForSpaces(spaced.to_owned())
            );
            assert_eq!(
                to(spaced, &["alice"]),
                Similar::ButForSpaces("alice".to_owned())
            );
        }
        assert_eq!(to("alcie", &["alice", "bob"]), names(&["alice"]));
        assert_eq!(
            to("alice", &["alicf", "ALIXE", "lice", "alicee", "carl"]),
            names(&["ALIXE", "alicee", "alicf"])
        );
        assert_eq!(to("", &["bob"]), names(&[]));
        assert_eq!(to("", &["b"]), names(&["b"]));
    }
}
