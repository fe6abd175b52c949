//! Workspace tests live beside this file, one file a subject.
