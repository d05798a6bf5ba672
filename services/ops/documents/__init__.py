"""The documents of the interfaces, made from the code: OpenAPI of the services, AsyncAPI of the
topics.
"""
