// The precompiled header's home.
