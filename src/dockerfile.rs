//! A reader of Dockerfiles: which files a build may ask for.
