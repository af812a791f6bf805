//! What holds for any input, of the parts that need neither a database nor a socket.

mod house;
mod ini;
mod pure;
