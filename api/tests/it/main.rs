//! The API from outside: a real engine on an embedded store, and requests as any client sends them.
