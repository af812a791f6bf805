//! What is true for any input, of the parts that need neither a database nor a socket: arbitrary input compared with naive
//! models.

mod credentials;
mod event;
mod gaps;
mod house;
mod ini;
mod links;
mod notification;
mod position;
mod repository;
mod rust_version;
mod snapshot;
mod values;
mod words;
