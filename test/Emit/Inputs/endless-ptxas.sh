#!/bin/sh
# A ptxas that never ends.
exec sleep 1000
