"""The OpenAPI document that describes the API, made from the routes and the messages themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from litestar import MediaType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from odc import __version__
from odc.domain.open_enum import OpenEnum

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator

CONFIG = OpenAPIConfig(
    title="Open Developer Cloud",
    version=__version__,
    path="/v1/openapi.json",
    render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"], media_type=MediaType.JSON)],
    use_handler_docstrings=True,
    operation_id_creator=lambda handler, _method, _path: handler.handler_name,
)


class ClosedMessages(OpenAPISchemaPlugin):
    """Marks messages that refuse unknown fields as such, which the framework leaves out."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is such a message."""
        if field_definition.is_union or not field_definition.is_subclass_of(msgspec.Struct):
            return False
        return bool(field_definition.type_.__struct_config__.forbid_unknown_fields)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        """The framework's description, closed."""
        others = (plugin for plugin in schema_creator.plugins if plugin is not self)
        framework = next(plugin for plugin in others if schema_creator.plugin_supports_field(plugin, field_definition))
        schema = framework.to_openapi_schema(field_definition, schema_creator)
        schema.additional_properties = False
        return schema


class OpenEnums(OpenAPISchemaPlugin):
    """Describes a word that newer versions may add to as text, with the known words as examples.

    As an `enum` the document would promise that no word is ever added, and generated clients would refuse it.
    """

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is such a word."""
        return not field_definition.is_union and field_definition.is_subclass_of(OpenEnum)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        """Text, with the words that this version knows."""
        words: list[str] = [str(word) for word in field_definition.annotation]
        return Schema(type=OpenAPIType.STRING, examples=words)
