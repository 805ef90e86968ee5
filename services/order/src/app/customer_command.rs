//! Confirming and cancelling an order. The intent is committed before inventory is asked.

use std::sync::Arc;

use journal::DatabaseError;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::place::millis_left;
use super::{App, CommandContext, CommandError, CommandResult, IntentCommitted, stored_replies};
use crate::domain::CustomerCommand;
use crate::domain::decisions::{Intend, Place};
use crate::store::{Begun, CommandDecision, Order};

impl App {
    /// Confirms or cancels an order: commits the intent, asks inventory, records the answer.
    ///
    /// # Cancellation
    /// Run it in a shield. If it is dropped between its transactions, the reconciler finishes the order.
    pub async fn customer_command(
        &self,
        command: CommandContext,
        id: Uuid,
        wanted: CustomerCommand,
        committed: IntentCommitted,
    ) -> Result<CommandResult, CommandError> {
        let (name, deadline) = (wanted.as_str(), command.driver.context.deadline);
        let key = command.claim(name, id);
        let facts = command.driver.facts(name, command.driver.context.attempt);
        let decide = |order: &Order| self.decide(&command, order, wanted);
        match self.store.begin_command(&key, deadline, facts, &decide).await {
            Ok(Begun::Intent(order)) => {
                journal::meters::count_entry(order.status);
                // A send fails when the client has left. The order advances all the same.
                let _ = committed.send(Arc::clone(&order));
                Ok(self.finish(&command, order, name).await)
            }
            Ok(Begun::Reply(reply)) => Ok(CommandResult::Final(reply)),
            Ok(Begun::KeyTaken) => self.repeat(&command, name).await,
            Ok(Begun::NotFound) => Err(CommandError::NotFound),
            Ok(Begun::NotYet(from)) => Err(CommandError::NotYet { from, to: wanted.goal() }),
            Ok(Begun::UnknownStatus(from)) => Err(CommandError::UnknownStatus { from, to: wanted.goal() }),
            // COMMIT outcome unknown: the key's row has it. If it succeeded, the reconciler advances the order.
            Err(unknown @ DatabaseError::Unknown(_)) => {
                self.settled(&command).await.map_err(|_| CommandError::Database(unknown))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn decide(&self, command: &CommandContext, order: &Order, wanted: CustomerCommand) -> CommandDecision {
        if order.status.after(wanted.event()).is_ok() {
            self.clocks.adopt_head(order.head_clock);
            return CommandDecision::Begin(Intend {
                state: order.status,
                command: wanted,
                reservation_id: order.reservation_id,
                expires_at: order.expires_at.and_then(|t| t.format(&Rfc3339).ok()),
                deadline_left_ms: millis_left(command.driver.context.deadline),
                if_unknown: Place::IF_UNKNOWN.into(),
            });
        }
        match stored_replies::of_rest(order, wanted, command.driver.context.correlation_id.as_str()) {
            Some(reply) => CommandDecision::Reply(reply),
            None => CommandDecision::NotYet,
        }
    }
}
