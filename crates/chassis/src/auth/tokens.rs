//! The tokens file: lines of `role principal sha256-of-token`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Principal;
use crate::hex;

/// Role of a principal; see the table of roles in docs/contract.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Places, confirms, cancels and reads its own orders, and reads items.
    Client,
    /// Reserves, confirms, releases and reads reservations.
    Service,
    /// Reads everything, creates items, receives stock and administers.
    Operator,
}

impl Role {
    const ALL: [Self; 3] = [Self::Client, Self::Service, Self::Operator];

    /// The name in the tokens file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Service => "service",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Fault in one line of the file. The line is not quoted: it may contain a token in place of the hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {detail}")]
pub struct TokenLineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// Description of the fault and of a valid line.
    pub detail: String,
}

/// The known tokens, by their SHA-256. Clones share them.
///
/// Only hashes are stored and compared. The time of a look-up depends on the hash of the presented token, which its sender
/// knows, and says nothing usable about a known token.
#[derive(Clone)]
pub struct Tokens(Arc<HashMap<[u8; 32], Principal>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} known)", self.0.len())
    }
}

impl Tokens {
    /// Reads the text of the file. Empty lines, and the rest of a line after `#`, are skipped. The error lists every fault.
    /// A principal has one role and may have several tokens, so that one can be replaced while another works.
    pub fn parse(text: &str) -> Result<Self, Vec<TokenLineError>> {
        let mut errors = Vec::new();
        let mut tokens: HashMap<[u8; 32], Principal> = HashMap::new();
        let mut roles: HashMap<Arc<str>, (Role, usize)> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let content = line.split_once('#').map_or(line, |(before, _)| before);
            if content.trim().is_empty() {
                continue;
            }
            let (hash, principal) = match parse_line(content) {
                Ok(parsed) => parsed,
                Err(detail) => {
                    errors.push(TokenLineError { line: number, detail });
                    continue;
                }
            };
            let (role, first) = *roles.entry(principal.name.clone()).or_insert((principal.role, number));
            if role != principal.role {
                let detail =
                    format!("{} is {role} on line {first}; a principal has one role", principal.name);
                errors.push(TokenLineError { line: number, detail });
            }
            if tokens.insert(hash, principal).is_some() {
                let detail = "this token is on an earlier line too".to_owned();
                errors.push(TokenLineError { line: number, detail });
            }
        }
        if tokens.is_empty() && errors.is_empty() {
            errors.push(TokenLineError { line: 1, detail: "the file holds no token".to_owned() });
        }
        if errors.is_empty() { Ok(Self(Arc::new(tokens))) } else { Err(errors) }
    }

    /// The principal of a token.
    pub fn identify(&self, token: &str) -> Option<&Principal> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.0.get(&hash)
    }
}

fn parse_line(content: &str) -> Result<([u8; 32], Principal), String> {
    let mut words = content.split_whitespace();
    let (Some(role), Some(name), Some(hash), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("must be `role principal sha256-of-token`".to_owned());
    };
    let role = Role::ALL
        .into_iter()
        .find(|r| r.as_str() == role)
        .ok_or("the role must be client, service or operator")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.len() > 64 || !name.bytes().all(plain) {
        return Err("the principal must be 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned());
    }
    let hash = hex::decode(hash).ok_or("the hash must be 64 hex digits, the SHA-256 of the token")?;
    Ok((hash, Principal { name: name.into(), role }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(role: &str, name: &str, token: &str) -> String {
        format!("{role} {name} {}\n", hex::encode(&Sha256::digest(token)))
    }

    #[test]
    fn a_token_names_its_principal_and_role() {
        let text = format!(
            "# who may call\n\n{}{}{}",
            line("client", "shop", "shop-token"),
            line("client", "shop", "shop-token-next"),
            line("operator", "ana", "ana-token"),
        );
        let tokens = Tokens::parse(&text).unwrap();
        for token in ["shop-token", "shop-token-next"] {
            let shop = tokens.identify(token).unwrap();
            assert_eq!((&*shop.name, shop.role), ("shop", Role::Client));
        }
        assert_eq!(tokens.identify("ana-token").unwrap().role, Role::Operator);
        for wrong in ["", "shop-toke", "shop-token ", &hex::encode(&Sha256::digest("shop-token"))] {
            assert_eq!(tokens.identify(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_bad_line_is_reported_with_its_number_and_without_its_content() {
        let text = format!(
            "client shop tok-en-in-the-clear\n{}admin ana 00\nclient\n{}{}{}",
            line("client", "shop", "a"),
            line("client", "other", "a"),
            line("operator", "shop", "b"),
            line("client", "no/slash", "c"),
        );
        let errors = Tokens::parse(&text).unwrap_err();
        assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7]);
        assert!(errors.iter().all(|e| !e.to_string().contains("tok-en-in-the-clear")));
        assert!(errors[4].to_string().contains("shop is client on line 2"), "{}", errors[4]);
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        assert_eq!(Tokens::parse("# nobody\n\n").unwrap_err().len(), 1);
    }
}
