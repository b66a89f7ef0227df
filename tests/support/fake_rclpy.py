"""A stub of rclpy with the messages that a node of the examples uses: as strict about types as the real one.

It knows what `ros2_node.py` calls, by the documented interface of ROS 2 Humble and Jazzy, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest

__all__ = ["FakeRos", "Imu", "imu_at"]


@dataclass
class Vector3:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


@dataclass
class Time:
    sec: int = 0
    nanosec: int = 0


@dataclass
class Header:
    stamp: Time = field(default_factory=Time)
    frame_id: str = ""


@dataclass
class Imu:
    header: Header = field(default_factory=Header)
    angular_velocity: Vector3 = field(default_factory=Vector3)
    linear_acceleration: Vector3 = field(default_factory=Vector3)


class Float32MultiArray:
    def __init__(self, *, data):
        assert all(type(value) is float for value in data), data  # as the generated class asserts
        self.data = list(data)


SENSOR_DATA = SimpleNamespace(name="sensor data")


def imu_at(t_ns, turn, push):
    return Imu(Header(Time(t_ns // 10**9, t_ns % 10**9)), Vector3(*turn), Vector3(*push))


class FakeRos:
    """ROS while one node runs.

    Args:
        monkeypatch: That of the test; it takes the modules away.
        parameters: Values by name.
        events: What happens while the node spins: a message for its subscription, or "timer"; then Ctrl-C.

    Attributes:
        published: What each topic got.
        warned: Lines of the node's log.
        qos: Of its subscription.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str], events: list[object]) -> None:
        self.parameters, self.events = parameters, events
        self.published: dict[str, list[list[float]]] = {}
        self.warned: list[str] = []
        self.topic = self.qos = self.kind = None
        self.callback: Callable[[object], object] | None = None
        self.timer: Callable[[], object] | None = None
        self.up = False
        for name, members in self._modules().items():
            module = ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)

    def _modules(self):
        return {
            "rclpy": {"init": self._init, "spin": self._spin, "shutdown": self._shutdown},
            "rclpy.node": {"Node": self._node()},
            "rclpy.qos": {"qos_profile_sensor_data": SENSOR_DATA},
            "rclpy.signals": {"SignalHandlerOptions": SimpleNamespace(NO="no")},
            "sensor_msgs": {},
            "sensor_msgs.msg": {"Imu": Imu},
            "std_msgs": {},
            "std_msgs.msg": {"Float32MultiArray": Float32MultiArray},
        }

    def _init(self, *, signal_handler_options):
        self.up = True

    def _shutdown(self):
        assert self.up
        self.up = False

    def _spin(self, node):
        for event in self.events:
            if event == "timer":
                self.timer()
            else:
                assert isinstance(event, self.kind)
                self.callback(event)
        raise KeyboardInterrupt

    def _publish(self, topic, message):
        assert self.up
        assert isinstance(message, Float32MultiArray)
        self.published.setdefault(topic, []).append(message.data)

    def _node(self):
        ros = self

        class Node:
            def __init__(self, name):
                assert ros.up
                assert name.isidentifier()

            def declare_parameter(self, name, value):
                return SimpleNamespace(value=ros.parameters.get(name, value))

            def create_publisher(self, kind, topic, depth):
                assert kind is Float32MultiArray
                assert type(depth) is int
                return SimpleNamespace(publish=lambda message: ros._publish(topic, message))

            def create_subscription(self, kind, topic, callback, qos):
                ros.kind, ros.topic, ros.callback, ros.qos = kind, topic, callback, qos

            def create_timer(self, period_s, callback):
                assert period_s > 0
                ros.timer = callback

            def get_logger(self):
                return SimpleNamespace(warning=ros.warned.append)

            def destroy_node(self):
                pass

        return Node
