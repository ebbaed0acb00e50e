//! Features of what people wrote, made for policies: lower-case clauses without punctuation, look-alike letters folded.
//!
//! The folding makes `phіshing` with a Cyrillic і, full-width letters and zero-width joints read as what they look
//! like. It never counts which language or script a text is in: no feature here says so, and none may.

use serde::{Deserialize, Serialize};

/// Clauses that are read; more marks the text as truncated.
pub const MAX_CLAUSES: usize = 4096;
/// Bytes of one clause; a longer one is cut in two between words.
pub const MAX_CLAUSE_BYTES: usize = 600;

/// What a text says, clause by clause. Each clause begins and ends with one space, so that a policy can ask for
/// whole words (`" kit "`), beginnings of words (`" phish"`) and, for scripts without spaces, plain parts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFacts {
    pub clauses: Vec<String>,
    /// There was more than [`MAX_CLAUSES`]: what is here is not all of it.
    pub truncated: bool,
}

impl TextFacts {
    /// Reads several texts, each of which starts a clause of its own.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut reader = Reader::default();
        for text in texts {
            reader.text(text);
            reader.end_clause();
        }
        reader.facts
    }
}

#[derive(Default)]
struct Reader {
    facts: TextFacts,
    clause: String,
    word: String,
}

impl Reader {
    fn text(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.trim();
            // A single line break inside a paragraph is no boundary; an empty line, a list item or a heading is.
            if line.is_empty() || line.starts_with(['-', '*', '#', '|', '>', '•']) {
                self.end_clause();
            }
            let mut chars = line.chars().peekable();
            while let Some(c) = chars.next() {
                match class(c) {
                    Class::Stop => self.end_clause(),
                    Class::Dot if chars.peek().is_none_or(|n| n.is_whitespace()) => self.end_clause(),
                    Class::Dot | Class::Gap => self.end_word(),
                    Class::Nothing => {}
                    Class::Letter => self.word.extend(fold(c)),
                }
            }
            self.end_word();
        }
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = unmix(&std::mem::take(&mut self.word));
        if self.clause.len() + word.len() + 2 > MAX_CLAUSE_BYTES && self.clause.len() > 1 {
            self.close();
        }
        if self.clause.is_empty() {
            self.clause.push(' ');
        }
        self.clause.push_str(&word);
        self.clause.push(' ');
    }

    fn end_clause(&mut self) {
        self.end_word();
        self.close();
    }

    fn close(&mut self) {
        let clause = std::mem::take(&mut self.clause);
        if clause.is_empty() {
        } else if self.facts.clauses.len() < MAX_CLAUSES {
            self.facts.clauses.push(clause);
        } else {
            self.facts.truncated = true;
        }
    }
}

enum Class {
    Letter,
    /// Ends a word.
    Gap,
    /// Ends a clause when white space follows, else a word (`3.11`, `app.py`).
    Dot,
    /// Ends a clause.
    Stop,
    /// Not there: joints, soft hyphens, combining accents of Latin, Greek and Cyrillic.
    Nothing,
}

fn class(c: char) -> Class {
    match c {
        '.' => Class::Dot,
        '!' | '?' | ';' | '。' | '！' | '？' | '；' | '।' | '؟' => Class::Stop,
        '\'' | '’' => Class::Nothing,
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => Class::Nothing,
        '\u{300}'..='\u{36f}' => Class::Nothing,
        c if c.is_ascii_alphanumeric() => Class::Letter,
        c if c.is_ascii() || c.is_whitespace() || c.is_control() => Class::Gap,
        '\u{a1}'..='\u{bf}' | '\u{2010}'..='\u{2029}' | '\u{2030}'..='\u{205f}' | '\u{3000}'..='\u{303f}' => {
            Class::Gap
        }
        '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' => Class::Gap,
        _ => Class::Letter,
    }
}

/// Lower case, full-width to plain, Latin letters without their accents.
fn fold(c: char) -> impl Iterator<Item = char> {
    let c = match c {
        '\u{ff10}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        other => other,
    };
    c.to_lowercase().map(|c| match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ś' | 'š' | 'ş' => 's',
        'ź' | 'ż' | 'ž' => 'z',
        'ł' => 'l',
        'ğ' => 'g',
        'đ' | 'ď' => 'd',
        'ř' => 'r',
        'ť' => 't',
        other => other,
    })
}

/// Folds Cyrillic and Greek look-alikes, but only inside a word that also has Latin letters: a Russian or Greek word
/// stays as it is.
fn unmix(word: &str) -> String {
    if !word.bytes().any(|b| b.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let plain = |c| match c {
        'а' | 'α' => 'a',
        'в' | 'β' => 'b',
        'с' => 'c',
        'е' | 'ε' | 'є' => 'e',
        'һ' => 'h',
        'і' | 'ι' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'ԁ' => 'd',
        'м' => 'm',
        'о' | 'ο' => 'o',
        'р' | 'ρ' => 'p',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' | 'ц' => 'u',
        'ѵ' | 'ν' => 'v',
        'ԝ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        other => other,
    };
    word.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: &[&str]) {
        assert_eq!(TextFacts::read([text]).clauses, expect, "{text}");
    }

    #[test]
    fn clauses_are_cut_where_people_cut_them() {
        check("Build a URL shortener. Use Python 3.11!", &[" build a url shortener ", " use python 3 11 "]);
        check("one line\nof two\n\n- item a\n- item b", &[" one line of two ", " item a ", " item b "]);
        check("don't  stop—now", &[" dont stop now "]);
        check("", &[]);
    }

    #[test]
    fn disguises_are_read_as_they_look() {
        check("ph\u{456}sh\u{200b}ing", &[" phishing "]);
        check("ｐｈｉｓｈｉｎｇ", &[" phishing "]);
        check("Contraseñas robadas", &[" contrasenas robadas "]);
    }

    #[test]
    fn other_scripts_stay_whole() {
        check("สร้างเว็บ\u{200b}ย่อลิงก์ ด้วย Python", &[" สร้างเว็บย่อลิงก์ ด้วย python "]);
        check("сократитель ссылок", &[" сократитель ссылок "]);
        check("短链接服务。用标准库", &[" 短链接服务 ", " 用标准库 "]);
    }

    #[test]
    fn too_much_text_is_said_to_be_too_much() {
        assert!(TextFacts::read(["a. ".repeat(MAX_CLAUSES + 1).as_str()]).truncated);
        assert!(!TextFacts::read(["a. ".repeat(MAX_CLAUSES).as_str()]).truncated);
    }

    proptest! {
        #[test]
        fn any_text_gives_padded_bounded_clauses(text in ".{0,2000}") {
            for clause in TextFacts::read([text.as_str()]).clauses {
                prop_assert!(clause.starts_with(' ') && clause.ends_with(' ') && clause.len() > 2);
            }
        }
    }
}
