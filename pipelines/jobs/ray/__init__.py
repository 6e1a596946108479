"""The backend on Ray Serve: this program keeps the queue and the page, replicas on a cluster hold the models."""
