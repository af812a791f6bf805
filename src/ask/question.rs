//! Questions, answers, and their encoding as numbers in the database.

use crate::model::explanation::Explanation;
use crate::model::ids::ContactId;

/// The maximum length of an explanation, in bytes: several times what a bridge writes.
const MAX_EXPLANATION: usize = 1 << 20;

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Send the contact's browsers a test notification: which of them receive it?
    Test { contact_id: ContactId },
    /// Which browsers are connected to you?
    RollCall,
    /// What do you know about the contact's browsers?
    Explain { contact_id: ContactId },
}

impl Question {
    pub(super) fn encode(self) -> [i64; 1] {
        match self {
            Self::Test { contact_id } => [contact_id.0],
            // No contact has this id or a negative one. A bridge that does not know the question answers it as a test of a
            // contact without browsers.
            Self::RollCall => [0],
            Self::Explain { contact_id } => [contact_id.0.saturating_neg()],
        }
    }
}

/// A bridge's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// A random number that identifies the bridge while it runs.
    pub(crate) bridge: i64,
    /// Browsers with open streams: the contact's, or all.
    pub(crate) browsers: usize,
    /// How many of them received the test notification.
    pub(crate) delivered: usize,
    /// When one of its looks last found rows without a bell, in milliseconds since the Unix epoch.
    pub(crate) without_bell_at_ms: Option<i64>,
    /// Numbers of browsers, or an explanation; empty for a test.
    pub(crate) numbers: Vec<i64>,
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<i64> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let head = [
            self.bridge,
            number(self.browsers),
            number(self.delivered),
            // 0 stands for never: no row was found in 1970.
            self.without_bell_at_ms.unwrap_or_default(),
            number(self.numbers.len()),
        ];
        head.into_iter()
            .chain(self.numbers.iter().copied())
            .collect()
    }

    fn decode(values: &[i64]) -> Option<(Self, &[i64])> {
        let ([bridge, browsers, delivered, without_bell_at_ms, length], rest) =
            values.split_first_chunk()?;
        let (numbers, rest) = rest.split_at_checked(usize::try_from(*length).ok()?)?;
        let answer = Self {
            bridge: *bridge,
            browsers: usize::try_from(*browsers).ok()?,
            delivered: usize::try_from(*delivered).ok()?,
            without_bell_at_ms: (*without_bell_at_ms != 0).then_some(*without_bell_at_ms),
            numbers: numbers.to_vec(),
        };
        Some((answer, rest))
    }

    /// The explanation in the answer; `None` if this version cannot parse it.
    pub(crate) fn explanation(&self) -> Option<Explanation> {
        unpack(&self.numbers)
    }
}

/// Encodes an explanation: its JSON, eight bytes per number.
pub(super) fn pack(explanation: &Explanation) -> Vec<i64> {
    // expect: JSON can represent all of its values.
    let mut json = serde_json::to_vec(explanation).expect("plain values serialise");
    // JSON ignores trailing spaces.
    json.resize(json.len().next_multiple_of(8), b' ');
    let (eights, _) = json.as_chunks();
    eights
        .iter()
        .map(|eight| i64::from_be_bytes(*eight))
        .collect()
}

fn unpack(numbers: &[i64]) -> Option<Explanation> {
    if numbers.len() > MAX_EXPLANATION / 8 {
        return None;
    }
    let json: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect();
    serde_json::from_slice(&json).ok()
}

/// Decodes a stored question with its answers; `None` if it was not written by a bridge or command.
pub(super) fn decode(values: &[i64]) -> Option<(Question, Vec<Answer>)> {
    let (first, mut rest) = values.split_first()?;
    let question = match *first {
        0 => Question::RollCall,
        number if number < 0 => Question::Explain {
            contact_id: ContactId(number.saturating_neg()),
        },
        number => Question::Test {
            contact_id: ContactId(number),
        },
    };
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let answer;
        (answer, rest) = Answer::decode(rest)?;
        answers.push(answer);
    }
    Some((question, answers))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::explanation::{BrowserState, Done, How, Other, Refused, Why};
    use crate::model::ids::HistoryId;
    use crate::model::sign_in::Refusal;

    pub(in crate::ask) fn answer(bridge: i64, sample: &[i64]) -> Answer {
        Answer {
            bridge,
            browsers: 3,
            delivered: 2,
            without_bell_at_ms: sample.first().copied(),
            numbers: sample.to_vec(),
        }
    }

    #[test]
    fn answers_are_read_back_as_they_were_appended() {
        let answers = vec![
            answer(-5, &[]),
            answer(i64::MAX, &[1, -2, 3]),
            answer(0, &[9]),
        ];
        for question in [
            Question::RollCall,
            Question::Test {
                contact_id: ContactId(7),
            },
            Question::Explain {
                contact_id: ContactId(7),
            },
        ] {
            let mut stored = question.encode().to_vec();
            for answer in &answers {
                stored.extend(answer.encode());
            }
            assert_eq!(decode(&stored), Some((question, answers.clone())));
            // Cut anywhere but between answers, it is rejected.
            for length in 1..stored.len() {
                let whole = [1, 6, 14].contains(&length);
                assert_eq!(decode(&stored[..length]).is_some(), whole, "{length}");
            }
        }
        for wrong in [
            &[][..],
            &[0, 1, -1, 0, 0, 0],
            &[0, 1, 1, 1, 0, i64::MAX],
            &[0, 1, 1, 1, 0, -1],
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn explanations_are_read_back_and_other_numbers_are_rejected() {
        let explanation = Explanation {
            browsers: vec![BrowserState {
                browser: i64::MIN,
                connected: None,
                done: vec![Done {
                    row: HistoryId(i64::MAX),
                    at_s: u32::MAX,
                    how: How::SummedUp,
                }],
            }],
            refusals: vec![
                Refused {
                    browser: 5,
                    why: Why::Refused(Refusal::Superseded),
                    at_s: 1,
                    count: 2,
                    over: true,
                },
                Refused {
                    browser: 6,
                    why: Why::Other(Other::Full),
                    at_s: 1,
                    count: u32::MAX,
                    over: false,
                },
            ],
        };
        for explanation in [Explanation::default(), explanation] {
            let numbers = pack(&explanation);
            assert_eq!(unpack(&numbers), Some(explanation));
            assert_eq!(unpack(&numbers[1..]), None);
            assert_eq!(unpack(&numbers[..numbers.len() - 1]), None);
        }
        let spaces = i64::from_be_bytes(*b"        ");
        let mut long = pack(&Explanation::default());
        long.resize(MAX_EXPLANATION, spaces);
        for wrong in [&[][..], &[0], &[-1, i64::MAX], &[spaces], &long] {
            assert_eq!(unpack(wrong), None);
        }
    }
}
