"""Generated Protobuf classes, made without the compiler."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import Message

_LABELS = {"": 1, "required": 2, "repeated": 3}
_TYPES = {"double": 1, "int64": 3, "int32": 5, "bool": 8, "string": 9, "message": 11, "enum": 14}


def add(message: Any, number: int, name: str, type: str, of: str = "", label: str = "") -> Any:
    """A field. `of`: the message or the enum that it is of."""
    return message.field.add(name=name, number=number, type=_TYPES[type], label=_LABELS[label], type_name=of or None)


def order_class() -> type[Message]:
    """Of two files, with all that a message may have."""
    common = descriptor_pb2.FileDescriptorProto(name="shop/common.proto", package="shop.common", syntax="proto3")
    add(common.message_type.add(name="Money"), 1, "cents", "int64")
    currency = common.enum_type.add(name="Currency")
    currency.value.add(name="UNKNOWN", number=0)
    currency.value.add(name="EUR", number=1)

    file = descriptor_pb2.FileDescriptorProto(
        name="shop/order.proto",
        package="shop",
        syntax="proto3",
        dependency=["shop/common.proto", "google/protobuf/timestamp.proto"],
    )
    order = file.message_type.add(name="Order")
    line = order.nested_type.add(name="Line")
    add(line, 1, "dish", "string")
    add(line, 2, "order", "message", ".shop.Order")
    entry = order.nested_type.add(name="ExtrasEntry")
    entry.options.map_entry = True
    add(entry, 1, "key", "string")
    add(entry, 2, "value", "message", ".shop.common.Money")
    order.oneof_decl.add(name="pay")
    order.oneof_decl.add(name="_note")
    add(order, 1, "id", "string")
    add(order, 2, "at", "message", ".google.protobuf.Timestamp")
    add(order, 3, "total", "message", ".shop.common.Money")
    add(order, 4, "currency", "enum", ".shop.common.Currency")
    add(order, 5, "lines", "message", ".shop.Order.Line", "repeated")
    add(order, 6, "extras", "message", ".shop.Order.ExtrasEntry", "repeated")
    add(order, 7, "card", "string").oneof_index = 0
    add(order, 8, "cash", "bool").oneof_index = 0
    note = add(order, 9, "note", "string")
    note.oneof_index, note.proto3_optional = 1, True
    return class_of("shop.Order", common, file)


def class_of(name: str, *files: descriptor_pb2.FileDescriptorProto) -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    known = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(known)
    for file in (known, *files):
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


ORDER_SOURCE = """\
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";

message Order {
  message Line {
    string dish = 1;
    Order order = 2;
  }
  string id = 1;
  google.protobuf.Timestamp at = 2;
  Money total = 3;
  Currency currency = 4;
  repeated Order.Line lines = 5;
  map<string, Money> extras = 6;
  oneof pay {
    string card = 7;
    bool cash = 8;
  }
  optional string note = 9;
}

// of the package shop.common
message Money {
  int64 cents = 1;
}

// of the package shop.common
enum Currency {
  UNKNOWN = 0;
  EUR = 1;
}
"""
