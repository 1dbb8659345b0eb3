"""The local listener: JSON API, DICOMweb and pages for the people and programs of this facility.

services
    The rooms of the node that requests are answered from, built once by `peer.runtime`.
door
    Where a request came in: TCP or the Unix socket.  It decides who is asking.
route
    A method, a path, the function that answers, and the roles that may ask.  What is not a route
    is not reachable, and a route without roles for someone is not reachable by them.
problem
    The answer "no" or "it failed": a status, a code, a reason and a remedy.
"""
