"""One request over HTTP: its head, its cookies, its body, whose session it is, and answers that the program writes."""
