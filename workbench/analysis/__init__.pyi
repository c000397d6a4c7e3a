from .layout import face_square as face_square, measure_named as measure_named, number_text as number_text, tile as tile
