"""JSON Schema as AsyncAPI reads it: draft 7, where pydantic writes a newer one."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

COMPONENTS = "#/components/schemas/"
Json = dict[str, Any]

_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems", "not", "contains", "propertyNames", "if", "then", "else")


class Generator(GenerateJsonSchema):
    """Of what travels: what is written holds all fields, those with defaults too."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012  # as pydantic has it

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # it only repeats the field's name

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool
    ) -> bool:
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if schema.get("default_factory") in (list, dict, set, frozenset, tuple):  # others may be of the moment
            empty: Any = {} if schema["default_factory"] is dict else []
            found = {**found, "default": empty}
        return found

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        if hasattr(schema["cls"], "__xml_tag__"):
            _say_xml(found, schema["cls"])
        return found

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {"description": "a value that JSON Schema has no word for"}


def _say_xml(schema: Json, model: Any) -> None:
    """Which of a pydantic_xml model's fields are attributes and which elements, in OpenAPI's words."""
    schema["xml"] = {"name": model.__xml_tag__ or model.__name__}
    for name, field in model.model_fields.items():
        found = schema.get("properties", {}).get(field.serialization_alias or field.alias or name)
        entity = next((each for each in field.metadata if hasattr(each, "nillable")), None)  # its XmlEntityInfo
        if found is not None and entity is not None:
            found["xml"] = _entity(entity, field.serialization_alias or field.alias or name)


def _entity(entity: Any, name: str) -> Json:
    path: list[str] = []
    location = None
    while entity is not None:  # an element in another one
        path += [entity.path] if entity.path else []
        location = entity.location or location
        entity = entity.wrapped
    xml: Json = {"name": "/".join(path) or name}
    if location is not None and location.name == "ATTRIBUTE":
        xml["attribute"] = True
    return xml


def to_draft7(schema: Any) -> Any:
    """Without what draft 7 reads differently: tuples, what stands beside a $ref, discriminators as OpenAPI has them."""
    if not isinstance(schema, dict):
        return schema
    made: Json = {}
    for key, value in schema.items():
        if key in _OF_SCHEMAS:
            made[key] = {name: to_draft7(each) for name, each in value.items()}
        elif key in _LISTS:
            made[key] = [to_draft7(each) for each in value]
        elif key in _SINGLE:
            made[key] = to_draft7(value)
        else:
            made[key] = value
    if "prefixItems" in made:
        rest = made.pop("items", None)
        made["items"] = made.pop("prefixItems")
        if rest is not None:
            made["additionalItems"] = rest
    if isinstance(made.get("discriminator"), dict):
        made["discriminator"] = made["discriminator"]["propertyName"]
    if "$ref" in made and len(made) > 1:
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made
