//! What is true for any input, of the parts that need neither a database nor a socket: arbitrary input compared with naive
//! models.

mod credentials;
mod event;
mod gaps;
mod house;
mod ini;
mod notification;
mod position;
mod rust_version;
mod snapshot;
mod values;
