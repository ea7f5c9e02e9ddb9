# -*- coding: utf-8 -*-
NAME = "café"  # Latin-1 in a file that says UTF-8
