"""A node of ROS 2: `sensor_msgs/Imu` in, `std_msgs/Float32MultiArray` out, stepped with the stamps of the messages.

It has not run on ROS: the tests of this project run it on a stub of rclpy. The bundle has one input with six columns,
angular velocity and linear acceleration, and one output:

    python ros2_node.py --ros-args -p bundle:=gait.lnn -p imu:=/imu/data -p command:=/motors

A callback steps each message as it comes. What is late, not finite or behind a gap is the guard's matter, as in a loop.
"""

import signal
import sys

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Imu
from std_msgs.msg import Float32MultiArray

import lnn_edge

DEADLINE_S = 0.2  # without a message for so long the safe output goes out


class Policy(Node):
    def __init__(self):
        super().__init__("lnn_edge")
        bundle = self.declare_parameter("bundle", "gait.lnn").value
        imu = self.declare_parameter("imu", "imu").value
        command = self.declare_parameter("command", "command").value
        self.guarded = lnn_edge.load(bundle).guarded()  # with the guard of the bundle
        self.publisher = self.create_publisher(Float32MultiArray, command, 10)
        # Sensor data is best effort, the newest five: a message that was lost comes too late again.
        self.create_subscription(Imu, imu, self.step, qos_profile_sensor_data)
        self.create_timer(DEADLINE_S, self.look)
        self.came = False
        self.said = set()

    def step(self, message):
        self.came = True
        stamp, turn, push = message.header.stamp, message.angular_velocity, message.linear_acceleration
        x = [turn.x, turn.y, turn.z, push.x, push.y, push.z]
        self.send(self.guarded.tick(x, t_s=stamp.sec + stamp.nanosec * 1e-9))

    def look(self):
        """Stop while nothing comes, and begin anew with what comes then."""
        if not self.came:
            self.send(self.guarded.stop())
            self.guarded.enable()
        self.came = False

    def send(self, tick):
        if not tick.status.trusted and tick.status not in self.said:
            self.said.add(tick.status)
            self.get_logger().warning(f"{tick.status.text}: {tick.error or 'no sample was stepped'}")
        if tick.y is not None:
            self.publisher.publish(Float32MultiArray(data=tick.y.tolist()))


def main():
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # its own would end the publisher before the last output
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    node = Policy()
    try:
        rclpy.spin(node)  # the timer wakes it, so that a signal waits for DEADLINE_S at most
    except KeyboardInterrupt:
        pass
    finally:
        node.send(node.guarded.stop())
        print(", ".join(f"{count} {words}" for words, count in node.guarded.counts.items()))
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
