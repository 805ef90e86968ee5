//! The pair's tokens: those that people and the order service use, and the files by which the services recognise
//! them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::PairError;
use crate::{Secret, Service, private};

/// A principal's token and its file, which only its owner can read.
#[derive(Debug, Clone)]
pub struct Token {
    pub principal: &'static str,
    pub role: &'static str,
    pub secret: Secret,
    pub file: PathBuf,
}

/// The tokens of the pair's principals. They stay the same for the lifetime of the pair's directory, so that a client
/// may carry on after a restart.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub client: Token,
    /// A second client, to check that neither client sees the other's orders.
    pub client2: Token,
    pub operator: Token,
    /// The order service's token at inventory.
    pub order: Token,
    directory: PathBuf,
}

impl Tokens {
    pub(super) fn prepare(directory: &Path) -> Result<Self, PairError> {
        private::directory(directory).map_err(PairError::io(directory))?;
        let token = |principal, role| token(directory, principal, role);
        let tokens = Self {
            client: token("client", "client")?,
            client2: token("client2", "client")?,
            operator: token("operator", "operator")?,
            order: token("order", "service")?,
            directory: directory.to_owned(),
        };
        for service in Service::BOTH {
            let file = tokens.accepted_file(service);
            private::file(&file, &tokens.accepted(service)).map_err(PairError::io(&file))?;
        }
        Ok(tokens)
    }

    /// The file for a service's `AUTH_TOKENS_FILE`.
    pub fn accepted_file(&self, service: Service) -> PathBuf {
        self.directory.join(format!("accepted-by-{service}"))
    }

    fn accepted(&self, service: Service) -> String {
        let people = [&self.client, &self.client2, &self.operator];
        let peer = (service == Service::Inventory).then_some(&self.order);
        people.into_iter().chain(peer).fold(String::new(), |mut lines, token| {
            write!(lines, "{} {} ", token.role, token.principal).expect("a String takes everything");
            for byte in Sha256::digest(token.secret.expose()) {
                write!(lines, "{byte:02x}").expect("a String takes everything");
            }
            lines + "\n"
        })
    }
}

fn token(directory: &Path, principal: &'static str, role: &'static str) -> Result<Token, PairError> {
    let file = directory.join(principal);
    let kept = fs::read_to_string(&file).ok().filter(|token| !token.is_empty());
    let secret = kept.map_or_else(Secret::generate, Secret::new);
    private::file(&file, secret.expose()).map_err(PairError::io(&file))?;
    Ok(Token { principal, role, secret, file })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::TemporaryDirectory;

    #[tokio::test]
    async fn tokens_stay_the_same_and_only_their_hashes_are_in_the_accepted_files() {
        let scratch = TemporaryDirectory::create_in(&std::env::temp_dir()).unwrap();
        let directory = scratch.path().join("tokens");
        let first = Tokens::prepare(&directory).unwrap();
        let second = Tokens::prepare(&directory).unwrap();
        assert_eq!(first.client.secret, second.client.secret);
        assert_ne!(first.client.secret, first.client2.secret);
        assert_eq!(fs::metadata(&first.order.file).unwrap().permissions().mode() & 0o777, 0o600);

        let order = fs::read_to_string(first.accepted_file(Service::Order)).unwrap();
        let inventory = fs::read_to_string(first.accepted_file(Service::Inventory)).unwrap();
        assert_eq!(order.lines().count(), 3);
        assert_eq!(inventory, format!("{order}{}", inventory.lines().last().unwrap().to_owned() + "\n"));
        assert!(inventory.lines().last().unwrap().starts_with("service order "));
        assert!(!inventory.contains(first.client.secret.expose()));
    }
}
