"""From a model that says what comes next to texts: choosing tokens one by one, or the best of several ways to go on."""
