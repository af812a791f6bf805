//! Settings: the files of Icinga Web, and what absence means.
